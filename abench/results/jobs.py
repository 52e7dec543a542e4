"""SAEs and cells to compute, each with a key over everything that can change its numbers. No I/O."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import is_
from typing import TYPE_CHECKING, Any, ClassVar

from abench.config import DataSpec, EvaluationSpec, ModelConfig, TrainingSpec
from abench.results.recorded import RecordedData
from abench.settings import variant_name
from abench.storage.bundle import Bundle
from abench.storage.keys import begun_digest, canonical_of_parts, canonical_value, digest_of
from abench.task import Task, View

if TYPE_CHECKING:
    import hashlib

    from abench.variants import Variant

SCHEMA = 1
"""Version of the keys and of the files in a results folder."""

TRAINING_VERSIONS = {"float32": 1, "bfloat16": 2}
"""Version per precision; raise it whenever the same training spec gives different weights."""

SYNTHETIC_VERSION = 1
"""Raise this whenever the same synthetic model gives different activations."""


@dataclass(frozen=True)
class ModelRef:
    """A model as a run uses it."""

    name: str
    config: ModelConfig
    commit: str | None
    """The commit or hash that identifies the weights; None until they have been found."""
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
    """The beginning of the names of an SAE's files, made from its labels.

    It has no settings, so that an SAE has one place however many settings of its variant a run has; the key
    that follows tells them apart. An SAE that abench did not train has no seed, and is named without the name
    that its user gave it, so that its results are found under another name as well.
    """
    if labels["seed"] is None:
        return f"given_w{labels['width']}"
    return f"{variant_name(labels['variant'])}_k{labels['k']}_w{labels['width']}_s{labels['seed']}"


class Job(ABC):
    """One SAE of a run: one to train (`SAEJob`) or one that exists (`abench.runs.given.GivenSAE`)."""

    trained: ClassVar[bool]
    """Whether abench trains it."""

    model: ModelRef
    site: str
    width: int

    @property
    @abstractmethod
    def label(self) -> str:
        """Its name among the SAEs of its model and site in the results folder."""

    @property
    @abstractmethod
    def canonical(self) -> str:
        """The canonical JSON of the spec, which is part of the canonical JSON of each of its cells."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The hash of the spec."""

    @property
    @abstractmethod
    def signed(self) -> bool:
        """Whether codes can be negative, so that the split view differs from the native one."""

    @abstractmethod
    def labels(self) -> dict[str, Any]:
        """Its labels in tables."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Everything that can change its codes and reconstructions."""

    def begun_digest(self, before: str) -> "hashlib._Hash":
        """The hash of `before` and this SAE's canonical JSON, the beginning of what its cells' keys hash.

        It is computed once for all cells that share it: the SAE's part is most of what a key hashes.
        """
        begun = self._begun.get(before)
        if begun is None:
            begun = self._begun[before] = begun_digest(before + self.canonical)
        return begun

    @cached_property
    def _begun(self) -> dict[str, "hashlib._Hash"]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        # Hashes that are not finished cannot be sent to another process.
        return {name: value for name, value in vars(self).items() if name != "_begun"}

    @abstractmethod
    def open(self, place: Bundle, device: str) -> Any:
        """The SAE on a device; `place` is where the store has it. Raises UserError."""


@dataclass(frozen=True)
class SAEJob(Job):
    """One SAE to train."""

    model: ModelRef
    site: str
    variant: "Variant"
    k: int
    width: int
    seed: int
    training: TrainingSpec
    data: DataSpec
    text: str | None = None
    """Identity of the text if it is on this machine (`abench.results.recorded.RecordedData`)."""
    shown_as: str | None = None
    """The variant with the settings that tell it apart in this run (`abench.settings`); None: its name."""

    trained: ClassVar[bool] = True

    @property
    def signed(self) -> bool:
        return self.variant.signed

    @cached_property
    def label(self) -> str:
        """An SAE's name among those of its model and site."""
        settings = {key: self.labels()[key] for key in ("k", "width", "seed")}
        return "{}_k{k}_w{width}_s{seed}".format(self.labels()["variant"], **settings)

    def labels(self) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "site": self.site,
            "variant": self.shown_as or self.variant.name,
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
            "variant": self.variant.recorded(),
            "k": self.k,
            "width": self.width,
            "seed": self.seed,
            "training": self.training.model_dump(mode="json"),
        }

    @cached_property
    def canonical(self) -> str:
        own = {name: canonical_value(getattr(self, name)) for name in _OWN}
        data = _canonical_data(self.data, self.text)
        return canonical_of_parts({**_canonical_shared(_Shared(self)), **own, "data": data})

    @cached_property
    def key(self) -> str:
        return digest_of(self.canonical)

    def open(self, place: Bundle, device: str) -> Any:
        from abench.variants import load_sae

        with place.local() as folder:
            return load_sae(folder, device=device)


_OWN = ("site", "k", "width", "seed")
"""The parts of an SAE's spec that are its own; the SAEs of a run share the others."""


class _Shared:
    """What an SAE shares with others, by identity: specs with 1 and with 1.0 are equal, their JSON is not."""

    def __init__(self, job: SAEJob) -> None:
        self.job = job
        self._parts = (job.model, job.variant, job.training)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shared) and all(map(is_, self._parts, other._parts))

    def __hash__(self) -> int:
        return hash(tuple(map(id, self._parts)))


@lru_cache(maxsize=256)
def _canonical_shared(shared: _Shared) -> dict[str, str]:
    """The canonical JSON of each part of an SAE's spec that is neither its own nor the data."""
    parts = shared.job._spec_but_data()
    return {name: canonical_value(value) for name, value in parts.items() if name not in _OWN}


@lru_cache(maxsize=16)
def _canonical_data(data: DataSpec, text: str | None) -> str:
    """The canonical JSON of the data part of an SAE's record; cached because the SAEs of a run share it.

    Equal specs give equal JSON because no field is a float.
    """
    return canonical_value(RecordedData.of(data, text).plain())


@dataclass(frozen=True)
class Scoring:
    """How SAEs are scored: one task in one view, shared by the cells of all SAEs of a run."""

    task: Task
    view: View
    evaluation: EvaluationSpec
    inputs: tuple[tuple[str, str], ...] = ()
    """(option, content hash) pairs of the task's options that name local files."""

    @cached_property
    def labels(self) -> dict[str, str]:
        """The labels in tables that its cells share."""
        return {"task": self.task.name, "task_version": self.task.version, "view": self.view}

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
    def label(self) -> str:
        """The beginning of the names of its cells' files."""
        return f"{self.task.name}-{self.view}"

    @cached_property
    def around(self) -> tuple[str, bytes]:
        """The canonical JSON of a cell's spec before and (as bytes) after its SAE's part."""
        parts = {name: canonical_value(value) for name, value in self.spec().items()}
        # JSON escapes control characters, so a raw one can only be this placeholder.
        before, after = canonical_of_parts(parts | {"sae": "\0"}).split("\0")
        return before, after.encode()


@dataclass(frozen=True)
class Cell:
    """One SAE scored by one task in one view: the unit of caching, resuming, failing and reporting."""

    sae: Job
    scoring: Scoring

    @property
    def task(self) -> Task:
        return self.scoring.task

    @property
    def view(self) -> View:
        return self.scoring.view

    @property
    def label(self) -> str:
        return self.scoring.label

    def labels(self) -> dict[str, Any]:
        return self.sae.labels() | self.scoring.labels

    def spec(self) -> dict[str, Any]:
        """Everything that can change the scores."""
        return {"sae": self.sae.spec(), **self.scoring.spec()}

    @cached_property
    def key(self) -> str:
        # All but the end is hashed once per SAE, because a plan may have very many cells.
        before, after = self.scoring.around
        digest = self.sae.begun_digest(before).copy()
        digest.update(after)
        return digest.hexdigest()
