"""The plan of a run: groups of SAEs and cells, in a fixed order. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from abench.config import DataSpec, ModelConfig, RunConfig, TrainingSpec
from abench.config.sources import Sources
from abench.errors import UserError
from abench.results.jobs import Cell, Job, ModelRef, SAEJob, Scoring
from abench.runs.given import GivenSAE
from abench.runs.inputs import TEXT
from abench.settings import with_settings
from abench.sites import SITE_KINDS, site_name
from abench.task import Task
from abench.yamlfile import Document

if TYPE_CHECKING:
    from abench.runs.origin import Origin
    from abench.variants import Variant


@dataclass(frozen=True)
class Refused:
    """An SAE of a run that cannot be used; the others go on."""

    name: str
    reason: str


MOST_SAES = 10_000
"""Maximum number of SAEs in one run. Each has several cells, and a plan holds all of them."""


@dataclass(frozen=True)
class Group:
    """All SAEs of one model and site, which share the model's forward passes."""

    site: str
    saes: tuple[Job, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Plan:
    """The SAEs and cells that a run computes."""

    config: RunConfig
    model: ModelRef
    data: DataSpec
    groups: tuple[Group, ...]
    refused: tuple[Refused, ...] = ()
    """SAEs that the run names and that cannot be used, with the reason."""
    origin: "Origin | None" = None
    """What the plan was made from, so that its report can say so."""

    @cached_property
    def saes(self) -> tuple[Job, ...]:
        return tuple(sae for group in self.groups for sae in group.saes)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for group in self.groups for cell in group.cells)


def check_sizes(
    config: RunConfig, model: ModelConfig, sources: Sources | None = None, *, settings: int | None = None
) -> None:
    """Raise UserError for layers or sites that the model lacks, a k not below the width, or too many SAEs.

    `sources` provides the place where each value was given, for the message; `settings` is the number of
    variants with their options and training (None: one per variant).
    """
    at = sources or Sources((Document("the run", {}),))
    widths = sae_widths(config, model)
    with at.blamed("layers"):
        layers = model.numbered(config.layers)
        for layer in layers:
            if not 0 <= layer < model.n_layers:
                raise UserError(
                    f"layer {layer} is out of range: {model.title} has blocks 0 to {model.n_layers - 1}"
                )
    with at.blamed("sites"):
        if model.synthetic and config.sites != ("resid_post",):
            raise UserError(
                f"{model.title} is a synthetic model with a single site, so there is no choice between "
                f"{', '.join(SITE_KINDS)}: leave out sites"
            )
    with at.blamed("k"):
        for k in config.k or model.k:
            if k >= min(widths):
                raise UserError(f"k = {k} must be smaller than the width ({min(widths)} latents)")
    lists = (layers, config.sites, widths, config.k or model.k, config.seeds)
    if (saes := prod(map(len, lists)) * (settings or len(config.variants))) > MOST_SAES:
        raise UserError(f"the run has {saes:,} SAEs, but at most {MOST_SAES:,} are allowed: split it up")


def check_apart(plans: Mapping[str, Plan]) -> None:
    """Raise UserError if two runs that share a report have cells with the same labels.

    `plans` maps what describes each run, as its user can type it, to its plan. Tables tell cells apart by
    their labels only, and would average these as if they were seeds.
    """
    owners: dict[tuple[Any, ...], str] = {}
    for name, plan in plans.items():
        for cell in plan.cells:
            labels = cell.labels()
            owner = owners.setdefault(tuple(labels.values()), name)
            if owner != name:
                shown = ", ".join(f"{key} {value}" for key, value in labels.items())
                raise UserError(
                    f"{owner} and {name} would share a report that cannot tell their cells apart ({shown}): "
                    "give the options with the name of one of the two in place of the configuration's"
                )


def make_plan(
    config: RunConfig,
    name: str,
    model: ModelConfig,
    variants: Mapping[str, "Variant"],
    tasks: Mapping[str, Task],
    *,
    commit: str | None,
    inputs: Mapping[str, str] | None = None,
    trainings: Sequence[tuple[Mapping[str, Any], TrainingSpec]] = (),
    given: Callable[[ModelRef], Sequence[GivenSAE]] = lambda _: (),
) -> Plan:
    """The plan of a run, in a fixed order: sites, then variants, widths, k, seeds, then tasks and views.

    `variants` maps the label of each variant in tables (its name, with settings if there are several) to the
    variant. `inputs` are the hashes of the local files that the run reads, by key path (`inputs_of`).
    `trainings` are (what differs, training) pairs; by default, the configuration's own training. `given`
    returns the SAEs that exist already, which follow the trained ones of their site.
    """
    hashes = inputs or {}
    each_training = trainings or [({}, config.training)]
    check_sizes(config, model, settings=len(variants) * len(each_training))
    ref = ModelRef(name, model, commit, config.dtype or model.dtype, config.context or model.context)
    data = config.data or model.data
    labelled = [
        (with_settings(label, differing), variant, training.in_whole_buffers())
        for label, variant in variants.items()
        for differing, training in each_training
    ]
    by_site: dict[str, list[Job]] = {
        site: [
            SAEJob(
                *(ref, site, variant, k, width, seed, training, data, hashes.get(TEXT)),
                shown_as=shown_as,
            )
            for shown_as, variant, training in labelled
            for width in sae_widths(config, model)
            for k in config.k or model.k
            for seed in config.seeds
        ]
        for site in (_sites(config, model) if variants else ())
    }
    for sae in given(ref):
        by_site.setdefault(sae.site, []).append(sae)
    by_task = [
        tuple(Scoring(task, view, config.evaluation, _inputs(hashes, key)) for view in task.views)
        for key, task in tasks.items()
    ]
    groups = []
    for site, saes in by_site.items():
        cells = tuple(
            Cell(sae, scoring)
            for scorings in by_task
            for sae in saes
            # For a non-negative SAE all views coincide, so only one is computed.
            for scoring in scorings[: None if sae.signed else 1]
        )
        groups.append(Group(site, tuple(saes), cells))
    return Plan(config, ref, data, tuple(groups))


def _sites(config: RunConfig, model: ModelConfig) -> list[str]:
    """The sites of a run: for each block, the kinds of sites in the order given."""
    if model.synthetic:
        return ["activations"]
    return [site_name(layer, kind) for layer in model.numbered(config.layers) for kind in config.sites]


def _inputs(hashes: Mapping[str, str], task: str) -> tuple[tuple[str, str], ...]:
    """(option, hash) pairs of one task's options."""
    prefix = f"task_options.{task}."
    return tuple((path.removeprefix(prefix), h) for path, h in hashes.items() if path.startswith(prefix))


def sae_widths(config: RunConfig, model: ModelConfig) -> tuple[int, ...]:
    """The widths (numbers of latents) of the run's SAEs."""
    return config.width or ((config.width_factor or model.width_factor) * model.d_model,)
