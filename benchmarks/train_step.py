"""Time of a training step against other libraries' steps and against a lower bound.

    python benchmarks/train_step.py [--quick] [--threads 2] [--output benchmarks/train_step]

All contenders of a row take turns, one step each, so that other load on the machine affects them equally; the
ratios are medians over the turns of the ratios within a turn. Other libraries are optional: `pip install
eai-sparsify dictionary-learning`. --output writes a table (.md) and a figure (.png).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does; read when torch is loaded

import torch
from common import machine, table
from matplotlib.figure import Figure
from torch import Tensor
from train_step_contenders import Problem, dictionary_learning, floor, ours, sae_lens, sparsify

from abench.variants import SAEShape

Times = dict[str, list[float]]
OTHERS = {"sae-lens": sae_lens, "dictionary_learning": dictionary_learning, "sparsify": sparsify}
TOP = ("topk", "abstopk", "batchtopk", "batchabstopk")
DEFAULT_RUN = SAEShape(d_in=128, width=2048, k=16)


def take_turns(steps: Mapping[str, Callable[[], object]], turns: int) -> Times:
    """Seconds of each step, with one list entry per turn, after one warm-up turn."""
    times: Times = {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, step in steps.items():
            wait_for_device()
            started = time.perf_counter()
            step()
            wait_for_device()
            if turn:
                times[name].append(time.perf_counter() - started)
    return times


def wait_for_device() -> None:
    """Wait until all work on a GPU is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def ratio(times: Times, name: str, to: str = "abench") -> str:
    """The ratio of the times of two steps."""
    if name not in times or to not in times:
        return "—"
    return f"{statistics.median(a / b for a, b in zip(times[name], times[to], strict=True)):.2f}"


def milliseconds(times: Times, name: str) -> str:
    return f"{statistics.median(times[name]) * 1e3:.1f}" if name in times else "—"


def contenders(problem: Problem, absent: set[str]) -> dict[str, Callable[[], object]]:
    """The steps to compare; names of libraries that are not installed are added to `absent`."""
    steps: dict[str, Callable[[], object]] = {"abench": ours(problem)}
    for name, make in OTHERS.items():
        try:
            step = make(problem)
        except ImportError as error:
            absent.add(f"{name} ({error})")
            continue
        if step is not None:
            steps[name] = step
    if problem.variant == "topk" and not problem.dead:
        steps["floor"] = floor(problem)
    return steps


def comparison(shape: SAEShape, tokens: int, turns: int, dead: int) -> str:
    """The table of all variants against all libraries."""
    absent: set[str] = set()
    rows = []
    for problem, label in problems(shape, tokens, dead):
        times = take_turns(contenders(problem, absent), turns)
        others = [ratio(times, name) for name in OTHERS]
        rows.append([label, milliseconds(times, "abench"), *others, ratio(times, "abench", to="floor")])
        print(" ".join(rows[-1]), flush=True)
    header = ["one training step", "abench, ms", *(f"{name} / abench" for name in OTHERS), "abench / floor"]
    size = f"d = {shape.d_in}, width {shape.width}, k = {shape.k}, {tokens} tokens, {turns} turns"
    missing = "".join(f"\nNot compared: {name}." for name in sorted(absent))
    return f"{table(header, rows)}\n\n{size}, {torch.get_num_threads()} threads.{missing}\n"


def problems(shape: SAEShape, tokens: int, dead: int) -> list[tuple[Problem, str]]:
    batch = activations(shape, tokens)
    found = [(Problem(name, shape, batch), name) for name in TOP]
    found += [(Problem(name, shape, batch, dead), f"{name}, {dead} dead") for name in ("topk", "abstopk")]
    for name in ("relu", "gated", "jumprelu"):
        start = Problem(name, shape, batch)
        found += [(start, f"{name}, at the start")]
        found += [(replace(start, sparse=True), f"{name}, k of the latents active")]
    return found


def activations(shape: SAEShape, tokens: int) -> Tensor:
    batch = torch.randn(tokens, shape.d_in, generator=torch.Generator().manual_seed(0))
    return batch.to(shape.device)


def growth(shape: SAEShape, tokens: int, turns: int, quick: bool) -> dict[str, list[tuple[float, Times]]]:
    """Times of abench's and sae-lens's TopK step against width, k and the number of SAEs."""
    batch = activations(shape, tokens)
    widths = [1024, 2048, 4096] if quick else [2048, 4096, 8192, 16384, 32768, 65536]
    ks = [8, 16, 32] if quick else [8, 16, 32, 64, 128, 256]
    series: dict[str, list[tuple[float, Times]]] = {"width": [], "k": [], "number of SAEs": []}

    def measure(axis: str, x: float, each: SAEShape, copies: int = 1) -> None:
        problem = Problem("topk", each, batch)
        made = [(ours(problem), sae_lens(problem)) for _ in range(copies)]
        steps = {
            "abench": lambda: [step() for step, _ in made],
            "sae-lens": lambda: [step() for _, step in made if step],
        }
        series[axis].append((x, take_turns(steps, turns)))

    for width in widths:
        measure("width", width, replace(shape, width=width))
    for k in ks:
        measure("k", k, replace(shape, k=k))
    for copies in (1, 2, 4) if quick else (1, 2, 4, 8):
        measure("number of SAEs", copies, replace(shape, width=min(shape.width, 2048)), copies)
    return series


def growth_table(series: Mapping[str, Sequence[tuple[float, Times]]]) -> str:
    rows = [
        [
            axis,
            f"{x:g}",
            milliseconds(times, "abench"),
            milliseconds(times, "sae-lens"),
            ratio(times, "sae-lens"),
        ]
        for axis, points in series.items()
        for x, times in points
    ]
    return table(["TopK step against", "at", "abench, ms", "sae-lens, ms", "ratio"], rows) + "\n"


def draw(series: Mapping[str, Sequence[tuple[float, Times]]], path: Path) -> None:
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(series)), series.items(), strict=True):
        for contender, style in (("abench", "o-"), ("sae-lens", "s--")):
            medians = [statistics.median(times[contender]) * 1e3 for _, times in points]
            axes.plot([x for x, _ in points], medians, style, label=contender)
        axes.set(xlabel=name, xscale="log", yscale="log")
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("ms per step, TopK")
    figure.axes[0].legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds instead of minutes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, help="steps of each contender (default 9, quick 3)")
    parser.add_argument("--no-growth", action="store_true", help="leave out width, k and number of SAEs")
    parser.add_argument("--output", type=Path, help="path without suffix for the table and the figure")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    turns = options.turns or (3 if options.quick else 9)
    shape = SAEShape(64, 1024, 16) if options.quick else SAEShape(512, 8192, 32)
    tokens = 256 if options.quick else 2048
    parts = [comparison(shape, tokens, turns, dead=100 if options.quick else 800)]
    if not options.quick:
        parts.append("The default run's shape:\n\n" + comparison(DEFAULT_RUN, tokens, turns, dead=200))
    if not options.no_growth:
        series = growth(shape, tokens, turns, options.quick)
        parts.append(growth_table(series))
        if options.output:
            draw(series, options.output.with_suffix(".png"))
    parts.append(machine())
    print("\n" + "\n".join(parts))
    if options.output:
        options.output.with_suffix(".md").write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
