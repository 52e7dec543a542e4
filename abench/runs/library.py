"""`abench.plan` and `abench.run`: what the command line does, as functions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abench.progress import for_stderr
from abench.results.store import Store
from abench.runs.plan import Plan
from abench.runs.planner import RunRequest, plan_run
from abench.runs.runner import run_plan
from abench.runs.scored import Scored


def plan(
    config: str | Path | None = None, *, plugins: Sequence[str | Path] = (), **configuration: Any
) -> Plan:
    """The SAEs and cells that `abench.run` with the same arguments computes; nothing is downloaded.

    Raises UserError for a description that is not valid.
    """
    return _plan(config, plugins, configuration, fetch=False)


def run(
    config: str | Path | None = None,
    *,
    results: str | Path = "results",
    device: str | None = None,
    plugins: Sequence[str | Path] = (),
    **configuration: Any,
) -> Scored:
    """Train SAEs, score them, and return the scores; `abench run` as a function.

    `config` is a YAML file or the name of a run that comes with abench. Keywords are keys of a run's
    configuration and override it: `abench.run(variants=["abstopk", "topk"], k=[8], training={"tokens":
    500_000})`. What the results folder holds is not computed again. Raises UserError for a description that
    is not valid. Cells that fail do not raise: the result's `failed` names them.
    """
    progress = for_stderr()
    planned = _plan(config, plugins, configuration, fetch=True)
    store = Store.open(Path(results), create=True)
    return Scored(planned, store, run_plan(planned, store, progress=progress, device=device))


def _plan(
    config: str | Path | None,
    plugins: Sequence[str | Path],
    configuration: Mapping[str, Any],
    *,
    fetch: bool,
) -> Plan:
    request = RunRequest(
        config=None if config is None else str(config),
        options=dict(configuration),
        plugins=tuple(map(Path, plugins)),
    )
    return plan_run(request, fetch=fetch, say=for_stderr().say)
