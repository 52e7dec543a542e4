"""The runs behind the figures of reliability; their cells are ordinary cells of the results folder."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abench.plugins import find_tasks
from abench.runs.plan import Plan
from abench.runs.planner import RunRequest, plan_run
from abench.task import Task

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Shares of the training tokens at which SAEs are compared for discrimination."""
DEFAULTS = {"variants": ("topk",), "k": (16,), "seeds": (0, 1, 2), "tasks": ("all",), "name": "reliability"}
"""What is studied unless the request says otherwise: one variant at one sparsity, to keep it short."""


@dataclass(frozen=True)
class Study:
    """The plans of a study. The first seed's SAE of the first plan is in all of them, apart from `shares`."""

    training: Plan
    """All seeds of the SAE, with the request's own evaluation seed."""
    reseeded: tuple[Plan, ...]
    """The first seed's SAE with each evaluation seed."""
    shares: tuple[tuple[float, Plan], ...]
    """(Share of the training tokens, the first seed's SAE trained on that share) pairs, in rising order."""
    truths: Mapping[str, str]
    """Task of the study -> its metric that states how well an SAE finds what is known to be in the model."""

    def plans(self) -> Iterator[Plan]:
        """All plans, those first that train what the others need."""
        yield self.training
        yield from self.reseeded
        yield from (plan for _, plan in self.shares)


def study_of(request: RunRequest, evaluation_seeds: int, *, fetch: bool, say: Callable[[str], None]) -> Study:
    """The plans of a study; raises UserError as `plan_run` does.

    Unless the request chooses tasks, all for this kind of model are studied, also those that `all` leaves
    out. Tasks that know the truth about this kind of model are added, because metrics are checked against
    it.

    An SAE at a share of the tokens is trained for its own, shorter schedule of the learning rate: it is no
    snapshot of the full training, whose checkpoints are removed at its end.
    """
    told: set[str] = set()

    def once(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            say(sentence)

    def planned(*assignments: str) -> Plan:
        options = {key: value for key, value in request.options.items() if value is not None}
        defaults = {} if request.config else {k: v for k, v in DEFAULTS.items() if k not in options}
        changed = replace(
            request, options={**defaults, **options}, assignments=(*request.assignments, *assignments)
        )
        return plan_run(changed, fetch=fetch, say=once)

    requested = planned()
    known = _known(request.plugins, requested)
    truths = {name: task.truth for name, task in known.items() if task.truth is not None}
    every = () if _chooses_tasks(request) else known
    tasks = dict.fromkeys((*(cell.task.name for cell in requested.cells), *truths, *every))
    with_truths = f"tasks={json.dumps([*tasks])}"
    whole = planned(with_truths)
    first = f"seeds=[{whole.config.seeds[0]}]"
    spec = whole.config.training
    tokens = {share: max(spec.batch_size, int(spec.tokens * share)) for share in SHARES}
    return Study(
        whole,
        tuple(planned(with_truths, first, f"evaluation.seed={seed}") for seed in range(evaluation_seeds)),
        tuple(
            (share, planned(with_truths, first, f"training.tokens={number}"))
            for share, number in tokens.items()
        ),
        truths,
    )


def _known(plugins: Sequence[Path], plan: Plan) -> dict[str, type[Task]]:
    """All tasks for this kind of model, also those that `all` leaves out."""
    kind = plan.model.config.kind
    tasks = (each.value for each in find_tasks(plugins).values() if each.value is not None)
    return {task.name: task for task in tasks if kind in task.kinds}


def _chooses_tasks(request: RunRequest) -> bool:
    """Whether a request says which tasks to study; a configuration does."""
    assigned = any(each.partition("=")[0].strip() == "tasks" for each in request.assignments)
    return request.config is not None or request.options.get("tasks") is not None or assigned
