"""From what was asked to what has to be computed: groups of SAEs and cells, each with its key. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from abench.config import DataSpec, EvaluationSpec, ModelConfig, RunConfig, TrainingSpec
from abench.config.sources import Sources
from abench.errors import UserError
from abench.inputs import TEXT
from abench.keys import canonical_of_parts, canonical_value, digest_of
from abench.recorded import RecordedData
from abench.task import Task, View
from abench.yamlfile import Document

if TYPE_CHECKING:
    from abench.variants import Variant

SCHEMA = 1
"""Version of the keys and of the files in a results folder."""

TRAINING_VERSIONS = {"float32": 1, "bfloat16": 2}
"""By precision; to be raised whenever the same training spec gives other weights."""

MOST_SAES = 10_000
"""SAEs of one run. Each has several cells, and a plan holds them all."""

SYNTHETIC_VERSION = 1
"""To be raised whenever the same synthetic model gives other activations."""


@dataclass(frozen=True)
class ModelRef:
    """A model as a run uses it."""

    name: str
    config: ModelConfig
    commit: str | None
    """What identifies the weights; None until they have been found."""
    dtype: str
    context: int

    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "commit": self.commit,
            "dtype": self.dtype,
            "context": self.context,
            "eos_after_documents": self.config.eos_after_documents,
        }
        if self.config.synthetic is not None:
            made_of = self.config.synthetic.model_dump(mode="json")
            spec["synthetic"] = {"version": SYNTHETIC_VERSION, "d_model": self.config.d_model, **made_of}
        return spec


def sae_label(labels: Mapping[str, Any]) -> str:
    """What an SAE is called among those of its model and site, from its labels."""
    return f"{labels['variant']}_k{labels['k']}_w{labels['width']}_s{labels['seed']}"


@dataclass(frozen=True)
class SAEJob:
    """One SAE to be trained."""

    model: ModelRef
    site: str
    variant: "Variant"
    k: int
    width: int
    seed: int
    training: TrainingSpec
    data: DataSpec
    text: str | None = None
    """Hash of the text's content where it is a local file."""

    @cached_property
    def label(self) -> str:
        return sae_label(self.labels())

    def labels(self) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "site": self.site,
            "variant": self.variant.name,
            "k": self.k,
            "width": self.width,
            "seed": self.seed,
        }

    def spec(self) -> dict[str, Any]:
        """Everything that can change the trained weights."""
        return self._spec_but_data() | {"data": RecordedData.of(self.data, self.text).plain()}

    def _spec_but_data(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "training_version": TRAINING_VERSIONS[self.training.precision],
            "model": self.model.spec(),
            "site": self.site,
            "variant": {"name": self.variant.name, **self.variant.model_dump(mode="json")},
            "k": self.k,
            "width": self.width,
            "seed": self.seed,
            "training": self.training.model_dump(mode="json"),
        }

    @cached_property
    def canonical(self) -> str:
        """The canonical JSON of the spec, which is part of that of each of its cells."""
        parts = {name: canonical_value(value) for name, value in self._spec_but_data().items()}
        return canonical_of_parts(parts | {"data": _canonical_data(self.data, self.text)})

    @cached_property
    def key(self) -> str:
        return digest_of(self.canonical)


@lru_cache(maxsize=16)
def _canonical_data(data: DataSpec, text: str | None) -> str:
    """The canonical JSON of what an SAE's record holds of its data; the SAEs of a run have it in common.

    Equal data are written alike, since no field is a number with a fraction.
    """
    return canonical_value(RecordedData.of(data, text).plain())


@dataclass(frozen=True)
class Scoring:
    """How SAEs are scored: one task in one view. The cells of a run share it, one for each SAE."""

    task: Task
    view: View
    evaluation: EvaluationSpec
    inputs: tuple[tuple[str, str], ...] = ()
    """Options of the task that name local files, each with the hash of the content."""

    def spec(self) -> dict[str, Any]:
        """Everything that can change the scores of a given SAE."""
        return {
            "schema": SCHEMA,
            "task": {
                "name": self.task.name,
                "version": self.task.version,
                "options": self.task.model_dump(mode="json"),
                **({"inputs": dict(self.inputs)} if self.inputs else {}),
            },
            "view": self.view,
            "evaluation": self.evaluation.model_dump(mode="json"),
        }

    @cached_property
    def around(self) -> tuple[str, str]:
        """The canonical JSON of a cell's spec before and after the part of its SAE."""
        parts = {name: canonical_value(value) for name, value in self.spec().items()}
        # A control character is escaped in JSON, so it marks the place.
        before, after = canonical_of_parts(parts | {"sae": "\0"}).split("\0")
        return before, after


@dataclass(frozen=True)
class Cell:
    """One SAE scored by one task in one view: the unit of caching, resuming, failing and reporting."""

    sae: SAEJob
    scoring: Scoring

    @property
    def task(self) -> Task:
        return self.scoring.task

    @property
    def view(self) -> View:
        return self.scoring.view

    @property
    def label(self) -> str:
        return f"{self.task.name}-{self.view}"

    def labels(self) -> dict[str, Any]:
        task = {"task": self.task.name, "task_version": self.task.version, "view": self.view}
        return self.sae.labels() | task

    def spec(self) -> dict[str, Any]:
        """Everything that can change the scores."""
        return {"sae": self.sae.spec(), **self.scoring.spec()}

    @cached_property
    def key(self) -> str:
        # Both parts are written once for all cells that share them, since a plan may have very many cells.
        before, after = self.scoring.around
        return digest_of(before + self.sae.canonical + after)


@dataclass(frozen=True)
class Group:
    """All SAEs of one model and site: they share the model's passes."""

    site: str
    saes: tuple[SAEJob, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Plan:
    """What a run computes."""

    config: RunConfig
    model: ModelRef
    data: DataSpec
    groups: tuple[Group, ...]

    @property
    def saes(self) -> tuple[SAEJob, ...]:
        return tuple(sae for group in self.groups for sae in group.saes)

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for group in self.groups for cell in group.cells)


def check_sizes(config: RunConfig, model: ModelConfig, sources: Sources | None = None) -> None:
    """Raise UserError for layers the model does not have, a k that is not below the width, or too many SAEs.

    `sources` tell where the numbers were given, for the sentence.
    """
    at = sources or Sources((Document("the run", {}),))
    widths = sae_widths(config, model)
    with at.blamed("layers"):
        for layer in config.layers or model.layers:
            if not 0 <= layer < model.n_layers:
                raise UserError(
                    f"layer {layer} is out of range: {model.title} has blocks 0 to {model.n_layers - 1}"
                )
    with at.blamed("k"):
        for k in config.k or model.k:
            if k >= min(widths):
                raise UserError(f"k = {k} must be smaller than the width ({min(widths)} latents)")
    lists = (config.layers or model.layers, config.variants, widths, config.k or model.k, config.seeds)
    if (saes := prod(map(len, lists))) > MOST_SAES:
        raise UserError(f"the run has {saes:,} SAEs; one run may have {MOST_SAES:,}: divide it into several")


def make_plan(
    config: RunConfig,
    name: str,
    model: ModelConfig,
    variants: Mapping[str, "Variant"],
    tasks: Mapping[str, Task],
    *,
    commit: str | None,
    inputs: Mapping[str, str] | None = None,
) -> Plan:
    """The plan of a run, in a fixed order: sites, then variants, widths, k, seeds, then tasks and views.

    `inputs` are the hashes of the local files that the run reads, by key path (`abench.inputs.inputs_of`).
    """
    hashes = inputs or {}
    check_sizes(config, model)
    ref = ModelRef(name, model, commit, config.dtype or model.dtype, config.context or model.context)
    data = config.data or model.data
    by_task = [
        tuple(Scoring(task, view, config.evaluation, _inputs(hashes, key)) for view in task.views)
        for key, task in tasks.items()
    ]
    groups = []
    for layer in config.layers or model.layers:
        site = "activations" if model.synthetic else f"blocks.{layer}.hook_resid_post"
        saes = tuple(
            SAEJob(ref, site, variants[v], k, width, seed, config.training, data, hashes.get(TEXT))
            for v in config.variants
            for width in sae_widths(config, model)
            for k in config.k or model.k
            for seed in config.seeds
        )
        cells = tuple(
            Cell(sae, scoring)
            for scorings in by_task
            for sae in saes
            # For a non-negative SAE all views coincide and only one is computed.
            for scoring in scorings[: None if sae.variant.signed else 1]
        )
        groups.append(Group(site, saes, cells))
    return Plan(config, ref, data, tuple(groups))


def _inputs(hashes: Mapping[str, str], task: str) -> tuple[tuple[str, str], ...]:
    """Option and hash, of one task's options."""
    prefix = f"task_options.{task}."
    return tuple((path.removeprefix(prefix), h) for path, h in hashes.items() if path.startswith(prefix))


def sae_widths(config: RunConfig, model: ModelConfig) -> tuple[int, ...]:
    """Numbers of latents of the run's SAEs."""
    return config.width or ((config.width_factor or model.width_factor) * model.d_model,)
