"""The rates of a device for one plan, from measurements of a few seconds."""

from collections.abc import Callable
from functools import cache, partial

from abench.cost import CostSetting
from abench.lm.dimensions import Dimensions
from abench.lm.origins import origin_of
from abench.pricing import calibration
from abench.pricing.calibration import Bench
from abench.pricing.operations import SAESizes
from abench.pricing.price import blocks_below, dense_share, sizes_of
from abench.pricing.rates import PassRates, Rates
from abench.pricing.todo import Scored, ToDo
from abench.runs.model_opening import open_planned
from abench.runs.plan import Plan

SECONDS = 8.0
"""Time after which no further kind of training step is measured."""
_LARGEST_OPENED = 600_000_000
"""A larger model is not opened for a price: reading its weights would take longer than the measurements."""


def measuring(device: str) -> Callable[[Plan, ToDo, Dimensions | None], Rates]:
    """The argument `rates` of `price_of`: measures this device."""

    def rates(plan: Plan, todo: ToDo, model: Dimensions | None) -> Rates:
        return rates_of(plan, todo, model, Bench.on(device, SECONDS))

    return rates


def rates_of(plan: Plan, todo: ToDo, model: Dimensions | None, bench: Bench) -> Rates:
    """What was measured, or is cached, for the parts of a plan that remain."""
    d_model = plan.model.config.d_model
    speed = calibration.products(bench, "float32", d_model)
    same = plan.model.dtype == "float32"
    steps: dict[tuple[str, SAESizes, int], float] = {}
    seen: set[tuple[str, int, int]] = set()
    for stream, sae in [(each, sae) for each in todo.streams for sae in each.saes]:
        sizes = sizes_of(sae)
        kind = (sae.variant.name, sizes.width, stream.training.batch_size)
        if kind in seen:
            continue  # k changes little
        seen.add(kind)
        share = dense_share(sae.variant, sizes, stream.training.steps)
        found = calibration.training_step(bench, sae.variant, sizes, stream.training, speed, share)
        if found is not None:
            steps[sae.variant.name, found[0], found[1]] = found[2]
    bandwidth = calibration.bandwidth(bench)
    largest = max((sizes_of(sae) for sae in plan.saes), key=lambda sizes: sizes.width)
    return Rates(
        bench.name,
        speed if same else calibration.products(bench, plan.model.dtype, d_model),
        speed,
        bandwidth,
        calibration.small_step(bench, d_model),
        calibration.encoding(bench, largest, speed, bandwidth),
        _passes(plan, todo, model, bench),
        steps,
    )


def _passes(plan: Plan, todo: ToDo, model: Dimensions | None, bench: Bench) -> dict[int, PassRates]:
    """Passes of the model at the sites that remain; empty if its weights are not here or are large."""
    config = plan.model.config
    if model is None or plan.model.commit is None or model.parameters > _largest(bench):
        return {}
    folder = origin_of(config).folder()
    if folder is None or not folder.is_dir():
        return {}
    sites = dict.fromkeys([s.site for s in todo.streams] + [s.site for s in todo.scored])
    opened = cache(partial(open_planned, plan.model, bench.device))
    replies = any(_writes(scored, plan) for scored in todo.scored)
    return {
        below: calibration.passes(bench, opened, plan.model.spec(), below - 1, replies=replies)
        for below in dict.fromkeys(blocks_below(site, config) for site in sites)
    }


def _writes(scored: Scored, plan: Plan) -> bool:
    """Whether a task generates replies, according to its own cost."""
    setting = CostSetting(scored.cells[0].scoring.evaluation, plan.data, plan.model.context)
    try:
        cost = scored.task.cost(setting)
    except Exception:
        return False  # reported where the task is priced
    return cost is not None and (cost.once + cost.per_sae + cost.per_model).generated > 0


def _largest(bench: Bench) -> float:
    return _LARGEST_OPENED if bench.device == "cpu" else 40 * _LARGEST_OPENED
