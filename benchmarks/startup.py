"""Time of `abench --help` against a Python process that does nothing."""

import statistics
import sys

from common import abench, machine, table, timed

RUNS = 15


def main() -> None:
    commands = {"python -c pass": [sys.executable, "-c", "pass"], "abench --help": abench("--help")}
    walls: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, command in commands.items():
            walls[name].append(timed(command)[0])
    rows = [
        [
            name,
            f"{statistics.median(w):.3f} s",
            f"{min(w):.3f} to {max(w):.3f} s",
            f"{statistics.median(w) / statistics.median(walls['python -c pass']):.1f}",
        ]
        for name, w in walls.items()
    ]
    print(table(["command", "median", "range", "ratio"], rows))
    print(f"\n{RUNS} interleaved runs. {machine()}")


main()
