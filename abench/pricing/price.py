"""The price of a plan: what each part reads and computes, and for how long."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abench.config import ModelConfig
from abench.cost import Cost, CostSetting, Work
from abench.lm.dimensions import Dimensions, dimensions_of
from abench.pricing import operations
from abench.pricing.operations import SAESizes
from abench.pricing.rates import Rates, seconds, step_seconds
from abench.pricing.todo import Scored, Stream, ToDo, to_do
from abench.results.jobs import Job
from abench.results.store import Status, Store
from abench.runs.plan import Plan
from abench.sites import layer_of
from abench.variants import L0Controller, SAEShape, Variant

_DENSE_STEPS = 300
"""Steps until a penalty has made latents sparse; about 500 until L0 is at its target."""
_SPECIAL = 1.03
"""Tokens read per activation: separators of documents are not trained on."""
_TINY_SPECIAL = 1.07
"""The tiny world's documents have 27 words, with a token before and after."""
_ROWS_WITH_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 28}
_BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768}
_USUAL_VOCABULARY = 50_000


@dataclass(frozen=True)
class Part:
    """One line of a price: reading, training or a task, at one site."""

    site: str
    what: str
    saes: int
    work: Work
    operations: float
    seconds: float | None = None
    assumes: str = ""
    stated: bool = True
    """False for a task that does not state its cost."""


@dataclass(frozen=True)
class Price:
    """All parts of a plan that remain to be computed."""

    parts: tuple[Part, ...]
    todo: ToDo
    model: Dimensions | None
    """None for synthetic activations."""
    rates: Rates | None
    """None if nothing was measured."""

    @property
    def seconds(self) -> float | None:
        """The total; None without rates."""
        each = [part.seconds for part in self.parts if part.seconds is not None]
        return sum(each) if self.rates is not None else None

    @property
    def unstated(self) -> tuple[str, ...]:
        """Names of tasks that do not state their cost."""
        return tuple(dict.fromkeys(part.what for part in self.parts if not part.stated))


def price_of(
    plan: Plan,
    store: Store | None,
    *,
    device: str = "cpu",
    rates: Callable[[Plan, ToDo, Dimensions | None], Rates] | None = None,
    standings: Mapping[str, Status] | None = None,
) -> Price:
    """What remains of a plan, priced; `rates` measures the device, and without it there are only counts.

    `standings` are those of the plan's cells by their keys, if already looked up.
    """
    todo = to_do(plan, store, standings)
    model = dimensions_of(plan.model.config) if plan.model.config.kind == "language" else None
    kind = "cuda" if device.startswith("cuda") else "cpu"
    parts = [part for stream in todo.streams for part in _training(stream, plan, model)]
    parts += [_scoring(s, plan, model, _setting(plan, model, kind, s, store)) for s in todo.scored]
    measured = rates(plan, todo, model) if rates and parts else None
    if measured is not None:
        parts = [_timed(part, measured, plan, model, todo) for part in parts]
    return Price(tuple(parts), todo, model, measured)


def sizes_of(job: Job) -> SAESizes:
    """The sizes of an SAE; one of unknown sparsity counts as having 32 active latents."""
    return SAESizes(job.model.config.d_model, job.width, getattr(job, "k", None) or 32)


def dense_share(variant: Variant, sae: SAESizes, steps: int) -> float:
    """Share of the training steps in which most latents are active."""
    shape = SAEShape(sae.d_in, sae.width, sae.k)
    return 0.0 if L0Controller.for_variant(variant, shape) is None else min(1.0, _DENSE_STEPS / steps)


def blocks_below(site: str, config: ModelConfig) -> int:
    """The number of blocks that a pass to a site runs."""
    return layer_of(site) + 1 if config.kind == "language" else 0


def _training(stream: Stream, plan: Plan, model: Dimensions | None) -> list[Part]:
    below = blocks_below(stream.site, plan.model.config)
    parts = []
    if model is not None:
        special = _TINY_SPECIAL if plan.data.source == "tinyworld" else _SPECIAL
        tokens = stream.activations * special
        read = Work(lower=tokens, passes=-(-tokens // (32 * plan.model.context)))
        done = operations.of_work(read, model, below, sizes_of(stream.saes[0]))
        parts.append(Part(stream.site, "reading text", len(stream.saes), read, done))
    total = sum(_step_operations(sae, stream) for sae in stream.saes) * stream.training.steps
    parts.append(Part(stream.site, "training", len(stream.saes), Work(), total))
    return parts


def _step_operations(sae: Any, stream: Stream) -> float:
    sizes = sizes_of(sae)
    dense = dense_share(sae.variant, sizes, stream.training.steps)
    return operations.of_step(sizes, stream.training.batch_size, dense_share=dense)


def _setting(
    plan: Plan, model: Dimensions | None, device: str, scored: Scored, store: Store | None
) -> CostSetting:
    evaluation = scored.cells[0].scoring.evaluation
    vocabulary = None if model is None else model.vocabulary
    numbers = _ROWS_WITH_LOGITS[device] // (plan.model.context * (vocabulary or _USUAL_VOCABULARY))
    return CostSetting(
        evaluation,
        plan.data,
        plan.model.context,
        plan.model.config.kind,
        vocabulary,
        _BATCH_TOKENS[device],
        min(evaluation.batch_size, max(1, numbers)),
        {} if store is None else _amounts(plan, scored, store),
    )


def _amounts(plan: Plan, scored: Scored, store: Store) -> dict[str, int]:
    """What a stored cell of the same task and view has recorded; empty if there is none."""
    for cell in plan.cells:
        if cell.task is scored.task and store.standing(cell) == "done":
            record = store.get(cell)
            if record is not None:
                return {str(each["what"]): int(each["used"]) for each in record.used}
    return {}


def _scoring(scored: Scored, plan: Plan, model: Dimensions | None, setting: CostSetting) -> Part:
    saes = len({cell.sae.key for cell in scored.cells})
    try:
        cost: Cost | None = scored.task.cost(setting)
    except Exception as error:
        # A task of a third party: its mistake must not prevent the price of all others.
        return Part(scored.site, scored.task.name, saes, Work(), 0.0, None, f"cost() failed: {error}", False)
    if cost is None:
        return Part(scored.site, scored.task.name, saes, Work(), 0.0, stated=False)
    below = blocks_below(scored.site, plan.model.config)
    shared = cost.once + cost.per_model if scored.first else cost.once
    work = shared + len(scored.cells) * cost.per_sae
    each = [sizes_of(cell.sae) for cell in scored.cells]
    done = operations.of_work(shared, model, below, each[0])
    done += sum(operations.of_work(cost.per_sae, model, below, sizes) for sizes in each)
    return Part(scored.site, scored.task.name, saes, work, done, assumes=cost.assumes)


def _timed(part: Part, rates: Rates, plan: Plan, model: Dimensions | None, todo: ToDo) -> Part:
    if not part.stated:
        return part
    below = blocks_below(part.site, plan.model.config)
    if part.what == "training" and part.work == Work():
        took = sum(
            stream.training.steps * _seconds_of_step(sae, stream, rates)
            for stream in todo.streams
            if stream.site == part.site
            for sae in stream.saes
        )
        return replace(part, seconds=took / _streams_at(todo.streams, part.site))
    sae = _typical(part, plan)
    return replace(part, seconds=seconds(part.work, rates, model, below, sae))


def _streams_at(streams: Sequence[Stream], site: str) -> int:
    return sum(stream.site == site for stream in streams)


def _seconds_of_step(sae: Any, stream: Stream, rates: Rates) -> float:
    sizes = sizes_of(sae)
    dense = dense_share(sae.variant, sizes, stream.training.steps)
    # Batches are gathered from the block's shuffled activations and normalised.
    moved = 12.0 * stream.training.batch_size * sizes.d_in / rates.bytes_per_second
    return step_seconds(sae.variant.name, sizes, stream.training.batch_size, rates, dense) + moved


def _typical(part: Part, plan: Plan) -> SAESizes:
    """The mean width of the SAEs at a site, for work that a price has summed over them."""
    here = [sizes_of(sae) for group in plan.groups if group.site == part.site for sae in group.saes]
    mean = round(sum(each.width for each in here) / len(here))
    return SAESizes(here[0].d_in, mean, round(sum(each.k for each in here) / len(here)))
