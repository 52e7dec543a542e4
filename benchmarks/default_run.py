"""Time of the whole default run, and of the same command again."""

import tempfile

from common import abench, machine, table, timed


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = abench("run", "--results", folder)
        first, again = timed(command), timed(command)
    rows = [
        [name, f"{wall:.0f} s", f"{cpu:.0f} s", f"{wall / first[0]:.2f}"]
        for name, (wall, cpu) in {"abench run": first, "again": again}.items()
    ]
    print(table(["command", "wall clock", "CPU", "ratio"], rows))
    print(f"\n{machine()}")


main()
