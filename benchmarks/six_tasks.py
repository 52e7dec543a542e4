"""Time of the six feature tasks at their defaults on the bundled model, for one SAE, eight, and one more.

    python benchmarks/six_tasks.py [--width 2048] [--layer 1] [--tasks all six]

The SAEs are trained first, on little text, and not timed: two seeds of four variants, of which one is signed
and scored in both views. Every task is timed as a separate process, `abench run`.
"""

import argparse
import tempfile

from common import abench, machine, table, timed

TASKS = ("sparse_probing", "scr", "tpp", "absorption", "ravel", "unlearning")
SAES = {
    1: ("--variants", "topk", "--seeds", "0"),
    8: ("--variants", "abstopk,topk,batchtopk,jumprelu", "--seeds", "0,1"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", default="2048")
    parser.add_argument("--layer", default="1", help="the site; RAVEL needs an early one")
    parser.add_argument("--tasks", default=",".join(TASKS))
    options = parser.parse_args()
    size = ("--k", "16", "--width", options.width, "--layer", options.layer, "--tokens", "204800")
    rows, totals = [], [0.0, 0.0]
    with tempfile.TemporaryDirectory() as folder:
        runs = {number: (*saes, *size, "--results", f"{folder}/{number}") for number, saes in SAES.items()}
        for run in runs.values():
            timed(abench("run", *run, "--tasks", "core", "--limit", "4"))
        start, _ = timed(abench("run", *runs[1], "--tasks", "core", "--limit", "4"))
        for task in options.tasks.split(","):
            one, eight = (timed(abench("run", *run, "--tasks", task))[0] - start for run in runs.values())
            # The two signed SAEs are scored in two views, so there are ten scores.
            rows.append([task, f"{one:.0f} s", f"{eight:.0f} s", f"{(eight - one) / 9 / one:.0%}"])
            totals = [totals[0] + one, totals[1] + eight]
            print(*rows[-1], flush=True)
    rows.append(["all six", *(f"{total:.0f} s" for total in totals), ""])
    print(table(["task", "one SAE", "eight SAEs", "one more score / one SAE"], rows))
    print(f"\nTimes exclude starting and reporting, {start:.0f} s per process. {machine()}")


if __name__ == "__main__":
    main()
