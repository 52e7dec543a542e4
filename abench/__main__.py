"""`python -m abench` is `abench`."""

from abench.cli import main

main()
