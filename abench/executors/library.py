"""`abench.run`: what `abench run` does, as a function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from abench.executors.base import Placement
from abench.executors.registry import executor_for
from abench.progress import for_stderr
from abench.results.store import Store
from abench.runs.library import planned
from abench.runs.scored import Scored


def run(
    config: str | Path | None = None,
    *,
    results: str | Path = "results",
    device: str | Sequence[str] | None = None,
    executor: str | None = None,
    ray_address: str | None = None,
    plugins: Sequence[str | Path] = (),
    **configuration: Any,
) -> Scored:
    """Train SAEs, score them, and return the scores; `abench run` as a function.

    `config` is a YAML file or the name of a run that comes with abench. Keywords are keys of a run's
    configuration and override it: `abench.run(variants=["abstopk", "topk"], k=[8], training={"tokens":
    500_000})`. What the results folder holds is not computed again.

    `device`, `executor` and `ray_address` are the options of the command: `device="cuda:0,cuda:1"` computes
    on two GPUs, each with a process of its own. A script must then call this function under
    `if __name__ == "__main__":`, because each process imports the script.

    Raises UserError for a description or placement that is not valid. Cells that fail do not raise: the
    result's `failed` names them.
    """
    progress = for_stderr()
    named = device.split(",") if isinstance(device, str) else device or ()
    folders = tuple(map(Path, plugins))
    placement = Placement(tuple(each.strip() for each in named), ray_address, plugins=folders)
    computing = executor_for(executor, placement)
    plan = planned(config, plugins, configuration, fetch=True, here=computing.computes_here)
    store = Store.open(results, create=True)
    return Scored(plan, store, computing.run(plan, store, progress))
