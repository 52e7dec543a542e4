"""How time and memory grow: with SAEs, tokens, width and tasks, with a further SAE, and with processes.

    python benchmarks/scale.py [--parts saes,tokens,width,tasks,executors] [--full] [--output PATH]
    python benchmarks/scale.py --parts tasks --model smollm2-135m --layer 15 --tasks core,scr

Every point is a process of its own with one thread (scale_points.py). `saes`, `tokens`, `width` and `tasks`
are CPU seconds, which other processes on the machine change by up to a third; `executors` is wall clock and
needs an idle machine with two cores. --full takes all sizes, in about half an hour. --output writes the table
(.md) and the figures (.png) under this path without its suffix.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common import machine, table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Numbers = dict[str, float]
Points = list[tuple[int, Numbers]]

SIZES = {
    "saes": ([1, 2, 4, 8], [1, 2, 4, 8, 16, 32]),
    "tokens": ([20_480, 40_960, 81_920], [20_480, 81_920, 327_680, 1_310_720]),
    "width": ([2048, 8192, 32_768], [2048, 4096, 8192, 16_384, 32_768, 65_536]),
}
"""Sizes by default, and with --full."""
TITLES = {"saes": "SAEs in a group", "tokens": "training tokens", "width": "latents per SAE"}
TINY_WORLD, MANUALS = "tinyworld", "manuals"


@dataclass(frozen=True)
class Measured:
    """A task, with less data than by default."""

    options: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    source: str = TINY_WORLD
    layer: int | None = None
    """The block after which it is measured; None: as --layer."""


OF_TINY = {
    "core": Measured({}, {"tokens": 4096}),
    "sparse_probing": Measured({"train_texts": 200, "test_texts": 100}, {}),
    "scr": Measured({"train": 200, "test": 100}, {}),
    "tpp": Measured({"train": 200, "test": 100}, {}),
    "absorption": Measured({}, {}),
    "ravel": Measured({}, {}, layer=1),
    "unlearning": Measured({"dataset_size": 64}, {}, layer=1),
    "bidirectionality": Measured({}, {}),
}
OF_LARGER = {
    "core": Measured({}, {"tokens": 2048}),
    "sparse_probing": Measured({"train_texts": 60, "test_texts": 30}, {}),
    "scr": Measured({"train": 80, "test": 40}, {}),
    "tpp": Measured({"train": 80, "test": 40}, {}),
    "absorption": Measured({"examples": 5, "min_letters": 1}, {"limit": 1000}, MANUALS, layer=5),
    "bidirectionality": Measured({}, {"tokens": 2048}),
    "ravel": Measured(
        {"attributes": {"city": ["Country", "Continent", "Language"]}}, {"limit": 90}, MANUALS, 5
    ),
}
"""For a model that reads the tiny world's texts, too. It knows none of the questions of `unlearning`."""


def point(kind: str, **options: Any) -> Numbers:
    """The numbers of one process; raises RuntimeError, with its last line, if it fails."""
    script = Path(__file__).with_name("scale_points.py")
    command = [sys.executable, "-P", str(script), kind, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{kind} {options}: {(done.stderr.splitlines() or ['?'])[-1]}")
    found: Numbers = json.loads(done.stdout.splitlines()[-1])
    return found


def group(model: str, *, saes: int = 1, tokens: int = 20_480, width: int = 2048) -> Numbers:
    plan = {
        "model": model,
        "variants": ["topk"],
        "seeds": list(range(saes)),
        "k": [16],
        "width": [width],
        "tasks": ["core"],
        "training.tokens": tokens,
        "evaluation.tokens": 4096,
    }
    return point("run", plan=plan)


def growth(axis: str, model: str, full: bool) -> Points:
    points: Points = []
    for size in SIZES[axis][full]:
        points.append((size, group(model, **{axis: size})))
        print(axis, size, points[-1][1], file=sys.stderr, flush=True)
    return points


def growth_table(found: Mapping[str, Points]) -> str:
    rows = []
    for axis, points in found.items():
        first, one = points[0]
        for size, each in points:
            times = size / first
            whole, at_first = each["training"] + each["scoring"], one["training"] + one["scoring"]
            rows.append(
                [
                    f"{TITLES[axis]}: {size:,}",
                    f"{each['training']:.1f} s",
                    f"{each['scoring']:.1f} s",
                    f"{whole / at_first:.2f} for {times:g} ×",
                    f"{each['peak'] - each['model']:,.0f} MiB",
                ]
            )
    header = [
        "group of SAEs",
        "training",
        "core",
        "time over the smallest size's",
        "on top of the open model",
    ]
    return table(header, rows)


def draw(found: Mapping[str, Points], path: Path) -> None:
    figure = Figure(figsize=(3.6 * len(found), 5.6), layout="constrained")
    panels = figure.subplots(2, len(found), squeeze=False, sharey="row")
    for column, (axis, points) in enumerate(found.items()):
        sizes = [size for size, _ in points]
        times: Axes = panels[0][column]
        for name, style in (("training", "o-"), ("scoring", "s--")):
            times.plot(sizes, [each[name] for _, each in points], style, label=name)
        times.set_yscale("log", base=2)
        times.yaxis.set_major_formatter("{x:g}")
        memory: Axes = panels[1][column]
        memory.plot(sizes, [each["peak"] - each["model"] for _, each in points], "^-", color="tab:green")
        memory.set_xlabel(TITLES[axis])
        for axes in (times, memory):
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
            axes.minorticks_off()
            axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("CPU seconds, one thread")
    panels[1][0].set_ylabel("MiB on top of the model")
    panels[1][0].set_ylim(bottom=0)
    panels[0][0].legend()
    figure.savefig(path, dpi=150)


def further_saes(names: Sequence[str], model: str, layer: int, width: int, prompts: str | None) -> str:
    """CPU seconds of each task for a first SAE and for a further one."""
    of = OF_TINY if model == "tiny" else OF_LARGER
    rows = []
    for name in names or of:
        if name not in of or (name == "ravel" and model != "tiny" and prompts is None):
            rows.append([name, "—", "—", "—"])
            continue
        given = dict(of[name].options)
        if name == "ravel" and prompts is not None:
            given["prompts"] = prompts
        try:
            each = point(
                "task",
                name=name,
                model=model,
                layer=layer if of[name].layer is None else of[name].layer,
                width=width,
                options=given,
                evaluation=dict(of[name].evaluation),
                source=of[name].source,
            )
        except RuntimeError as error:  # a model may know too little for a task
            print(error, file=sys.stderr, flush=True)
            rows.append([name, "—", "—", "—"])
            continue
        share = each["further"] / each["first"]
        rows.append([name, f"{each['first']:.1f} s", f"{each['further']:.2f} s", f"{share:.0%}"])
        print(*rows[-1], file=sys.stderr, flush=True)
    header = [f"{model}, width {width:,}", "first SAE", "each further SAE", "further / first"]
    return table(header, rows)


def executors(full: bool) -> str:
    """Wall clock of the same plans in this process, in two processes, and on a local Ray cluster."""
    plan = {
        "model": "tiny",
        "variants": ["abstopk", "topk"],
        "k": [16],
        "width": [1024],
        "tasks": ["core", "sparse_probing"],
        "evaluation.tokens": 4096,
    }
    small = plan | {"layers": [1], "training.tokens": 8192}
    many = plan | {"layers": [0, 1, 2, 3], "training.tokens": 8192}
    long = plan | {"layers": [0, 1, 2, 3], "training.tokens": 655_360 if full else 163_840}
    has_ray = find_spec("ray") is not None
    ways = [("serial", 1), ("devices", 2), *([("ray", 1), ("ray", 2)] if has_ray else [])]
    found: dict[tuple[str, int, str], Numbers] = {}
    for name, workers in ways:
        for size, each in {"small": small, "many": many, "long": long}.items():
            found[name, workers, size] = point("executor", name=name, plan=each, workers=workers)
            print(name, workers, size, found[name, workers, size], file=sys.stderr, flush=True)
    rows = []
    for name, workers in ways:
        seconds = {size: found[name, workers, size]["seconds"] for size in ("small", "many", "long")}
        faster = found["serial", 1, "long"]["seconds"] / seconds["long"]
        label = {"serial": "serial", "devices": "--device cpu,cpu"}.get(
            name, f"Ray, nodes of one CPU: {workers}"
        )
        rows.append([label, *(f"{each:.1f} s" for each in seconds.values()), f"{faster:.2f}"])
    header = ["", "one site", "four sites", "four sites, more tokens", "speed over serial"]
    return f"{table(header, rows)}\n\n{_overhead(found) if has_ray else 'Ray is not installed.'}"


def _overhead(found: Mapping[tuple[str, int, str], Numbers]) -> str:
    """What Ray adds to a share and to a run, from two plans on one node."""
    beyond = {
        size: found["ray", 1, size]["seconds"] - found["serial", 1, size]["seconds"]
        for size in ("small", "many")
    }
    shares = {size: found["ray", 1, size]["shares"] for size in ("small", "many")}
    each = (beyond["many"] - beyond["small"]) / (shares["many"] - shares["small"])
    start = beyond["small"] - shares["small"] * each
    return f"Ray adds {each:.2f} s per share, and {start:.1f} s per run to start its workers (one node)."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="saes,tokens,width,tasks,executors")
    parser.add_argument("--full", action="store_true", help="all sizes")
    parser.add_argument("--model", default="tiny", help="the model of saes, tokens, width and tasks")
    parser.add_argument("--layer", type=int, default=2, help="the block of tasks")
    parser.add_argument("--width", type=int, default=8192, help="the width of tasks")
    parser.add_argument("--tasks", default="", help="the tasks; default: all that can be measured")
    parser.add_argument("--prompts", help="the folder of RAVEL's prompts, for a model other than tiny")
    parser.add_argument("--output", type=Path, help="path without suffix for the table and the figures")
    options = parser.parse_args()
    parts, texts = options.parts.split(","), []
    axes = [axis for axis in SIZES if axis in parts]
    if axes:
        found = {axis: growth(axis, options.model, options.full) for axis in axes}
        texts.append(growth_table(found))
        if options.output:
            draw(found, options.output.with_suffix(".png"))
    if "tasks" in parts:
        names = [name for name in options.tasks.split(",") if name]
        texts.append(further_saes(names, options.model, options.layer, options.width, options.prompts))
    if "executors" in parts:
        texts.append(executors(options.full))
    texts.append(machine())
    print("\n\n".join(texts))
    if options.output:
        options.output.with_suffix(".md").write_text("\n\n".join(texts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
