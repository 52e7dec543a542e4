"""`abench.plan`: what `abench run --dry-run` plans, as a function."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abench.progress import for_stderr
from abench.runs.plan import Plan
from abench.runs.planner import RunRequest, plan_run


def plan(
    config: str | Path | None = None, *, plugins: Sequence[str | Path] = (), **configuration: Any
) -> Plan:
    """The SAEs and cells that `abench.run` with the same arguments computes; nothing is downloaded.

    Raises UserError for a description that is not valid.
    """
    return planned(config, plugins, configuration, fetch=False)


def planned(
    config: str | Path | None,
    plugins: Sequence[str | Path],
    configuration: Mapping[str, Any],
    *,
    fetch: bool,
    here: bool = True,
) -> Plan:
    """The plan of a run; `fetch` and `here` are those of `plan_run`. Raises UserError."""
    request = RunRequest(
        config=None if config is None else str(config),
        options=dict(configuration),
        plugins=tuple(map(Path, plugins)),
    )
    return plan_run(request, fetch=fetch, say=for_stderr().say, here=here)
