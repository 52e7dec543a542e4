"""`python -m abench` runs the `abench` command."""

from abench.cli import main

main()
