"""What a run is asked to do: YAML files and command-line options, merged and checked, as frozen specs.

Later sources win: a training preset, the model's file, the run's file, options, `--set key=value`.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from abench import yamlfile
from abench.errors import UserError, did_you_mean
from abench.synthetic_spec import SyntheticSpec

Spec = TypeVar("Spec", bound=BaseModel)


class Frozen(BaseModel):
    """Base of all specs: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSpec(Frozen):
    """Where text comes from."""

    source: Literal["tinyworld", "hub", "file"] = "hub"
    """`tinyworld` generates it, `hub` streams a Hugging Face data set, `file` reads local files."""
    dataset: str | None = "monology/pile-uncopyrighted"
    """Hub id (source hub) or path of a .jsonl, .json, .csv, .parquet or .txt file (source file)."""
    config: str | None = None
    """Configuration of the hub data set."""
    revision: str | None = None
    """Commit or tag of the hub data set."""
    split: str = "train"
    """Split that SAEs are trained on."""
    column: str = "text"
    """Column that holds the text."""
    held_out_documents: int = Field(5000, ge=1)
    """Documents at the beginning of the split that are kept from training, for evaluation.

    Not used by the tiny world, which has a test split of its own."""


class TrainingSpec(Frozen):
    """How every SAE of a group is trained. All of it is part of an SAE's key."""

    tokens: int = Field(10_000_000, ge=1)
    """Activations each SAE is trained on; rounded down to whole batches."""
    batch_size: int = Field(4096, ge=1)
    """Activations a step."""
    learning_rate: float = Field(3e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's decay rates."""
    warmup_fraction: float = Field(0.0, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly from 0."""
    decay_fraction: float = Field(0.0, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rate falls linearly to 0."""
    gradient_clip: float | None = Field(1.0, gt=0)
    """Largest norm of the gradient; null leaves it unclipped."""
    normalisation: Literal["scale", "layer_norm", "none"] = "scale"
    """`scale` multiplies all inputs by one factor so that the mean norm is sqrt(d_in) and folds it into
    the weights; `layer_norm` standardises each token, as the paper's code does."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the training step; weights and Adam's moments stay float32. `bfloat16` is for GPUs."""
    unit_decoder: bool = False
    """Keep decoder rows at norm 1: remove the gradient's parallel part, renormalise after each step."""
    dead_after_tokens: int = Field(200_000, ge=1)
    """A latent that has not fired for this many tokens counts as dead and gets the auxiliary loss."""
    outlier_norm: float | None = Field(10.0, gt=1)
    """Leave out activations whose norm is above this multiple of the median norm; null keeps all."""
    buffer_tokens: int = Field(131_072, ge=1)
    """Activations shuffled together; bounds the memory."""
    calibration_tokens: int = Field(65_536, ge=1)
    """Activations on which the inference threshold of batch-level variants is set after training."""
    seed: int = Field(0, ge=0)
    """Seed of the order of texts and of the shuffle; shared by all SAEs, whatever their own seed."""

    @property
    def steps(self) -> int:
        return self.tokens // self.batch_size

    @model_validator(mode="after")
    def _sizes_fit(self) -> "TrainingSpec":
        if self.tokens < self.batch_size:
            raise ValueError(f"tokens ({self.tokens}) must be at least one batch ({self.batch_size})")
        if self.buffer_tokens < self.batch_size:
            raise ValueError(f"buffer_tokens ({self.buffer_tokens}) must hold a batch ({self.batch_size})")
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError("warmup_fraction and decay_fraction add up to more than 1")
        return self


class EvaluationSpec(Frozen):
    """What every task is given. All of it is part of a cell's key."""

    tokens: int = Field(204_800, ge=1)
    """Held-out tokens that text-based tasks run over."""
    batch_size: int = Field(32, ge=1)
    """Contexts a model forward."""
    seed: int = Field(0, ge=0)
    """Seed of data, splits and probes; the same for all SAEs of a comparison."""
    limit: int | None = Field(None, ge=1)
    """Cut every data set to this many items, to try things out; such results have keys of their own."""


class RunConfig(Frozen):
    """One run: model x layers x variants x k x seeds, and the tasks that score every SAE."""

    name: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the report folder."""
    description: str = ""
    model: str = "tiny"
    """A name from `abench list models`, a local Hugging Face folder, or a hub id."""
    preset: str | None = None
    """Training preset, from configs/presets; null takes the model's."""
    layers: tuple[int, ...] | None = None
    """Sites: the residual stream after these blocks, counted from 0; null takes the model's."""
    variants: tuple[str, ...] = ("abstopk", "topk", "jumprelu")
    variant_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of variants, by variant: `{jumprelu: {bandwidth: 0.01}}`."""
    k: tuple[int, ...] | None = None
    """Active latents per token; null takes the model's."""
    width: tuple[int, ...] | None = None
    """Latents an SAE, one number or several; null is width_factor times the model's width."""
    width_factor: int | None = Field(None, ge=1)
    seeds: tuple[int, ...] = (0,)
    """Seeds of the SAEs' initial weights; tables show mean ± sd over them."""
    tasks: tuple[str, ...] | None = None
    """Names from `abench list tasks`, or `all`; null takes the model's."""
    task_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of tasks, by task."""
    metrics: tuple[str, ...] | None = None
    """Metrics that the table shows; null shows each task's headline metrics."""
    context: int | None = Field(None, ge=2)
    """Tokens a context; null takes the model's."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Precision of the language model; null takes the model's."""
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    data: DataSpec | None = None
    """Text to train and evaluate on; null takes the model's."""

    @field_validator("width", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @field_validator("layers", "variants", "k", "width", "seeds", "tasks", "metrics")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if values is not None and not values:
            raise ValueError("at least one is needed")
        repeated = sorted({str(v) for v in values or () if (values or ()).count(v) > 1})
        if repeated:
            raise ValueError(f"given more than once: {', '.join(repeated)}")
        return values

    @field_validator("k")
    @classmethod
    def _k_positive(cls, values: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if any(k <= 0 for k in values or ()):
            raise ValueError("k must be at least 1")
        return values

    @field_validator("width")
    @classmethod
    def _width_positive(cls, values: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if any(width < 2 for width in values or ()):
            raise ValueError("an SAE needs at least 2 latents")
        return values

    @field_validator("seeds")
    @classmethod
    def _seeds_in_range(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 0 <= seed < 2**32 for seed in values):
            raise ValueError("a seed must be between 0 and 2^32 - 1")
        return values


class ModelConfig(Frozen):
    """One of configs/models/*.yaml: a language model and how the paper (or abench) uses it."""

    title: str
    weights: str
    """`tinyworld`, a hub id, a local folder, or `synthetic`."""
    revision: str | None = None
    n_layers: int = Field(ge=1)
    d_model: int = Field(ge=2)
    layers: tuple[int, ...]
    k: tuple[int, ...]
    width_factor: int = 16
    context: int = 128
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    tasks: tuple[str, ...] = ("core",)
    """Tasks of a run that names none."""
    preset: str = "paper-text"
    gated: bool = False
    """Whether the hub asks for a licence to be accepted and a token."""
    data: DataSpec = DataSpec()
    eos_after_documents: bool = False
    """Whether packed documents end with EOS, as they did when the model was trained."""
    synthetic: SyntheticSpec | None = None
    """What activations are made of where there is no language model; needs `weights: synthetic`."""
    notes: str = ""

    @property
    def kind(self) -> Literal["language", "synthetic"]:
        return "language" if self.synthetic is None else "synthetic"

    @model_validator(mode="after")
    def _synthetic_fits(self) -> "ModelConfig":
        if (self.weights == "synthetic") != (self.synthetic is not None):
            raise ValueError("'weights: synthetic' and the key 'synthetic' need each other")
        if self.synthetic is not None and self.n_layers != 1:
            raise ValueError("a synthetic model has one layer: n_layers must be 1")
        return self


def config_names(kind: Literal["models", "presets", "runs"]) -> tuple[str, ...]:
    """Names of the configurations of a kind that come with abench."""
    folder = resources.files("abench.configs").joinpath(kind)
    return tuple(sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")))


def _shipped(kind: Literal["models", "presets", "runs"], name: str) -> dict[str, Any]:
    names = config_names(kind)
    if name not in names:
        raise UserError(f"there is no {kind[:-1]} '{name}'{did_you_mean(name, names)}")
    file = resources.files("abench.configs").joinpath(kind, f"{name}.yaml")
    value: dict[str, Any] = yamlfile.parse(file.read_text(encoding="utf-8"), file.name)
    return value


def is_model_file(name: str) -> bool:
    """Whether a model is given as a YAML file."""
    return Path(name).suffix in {".yaml", ".yml"}


def model_config(name: str) -> ModelConfig:
    """The configuration of a model that comes with abench, or that a YAML file describes.

    Raises UserError, with near names if there is no such model.
    """
    if is_model_file(name):
        values, text = yamlfile.read_mapping(Path(name)), Path(name).read_text(encoding="utf-8")
        return check(ModelConfig, values, where=name, text=text)
    return check(ModelConfig, _shipped("models", name), where=f"configs/models/{name}.yaml")


def load_run(source: str | None, options: Mapping[str, Any], assignments: Iterable[str] = ()) -> RunConfig:
    """The run that a file (or the name of a shipped run), options and `key=value` assignments describe.

    `options` maps key paths such as `training.tokens` to values. Options that are None are left out.
    Raises UserError with the file, the line and near names for anything that is not understood.
    """
    merged, where, text = _read_run(source)
    given = {key: value for key, value in options.items() if value is not None}
    if source is None and given:
        # What the default run says of itself does not hold for another one.
        merged.pop("description", None)
    for key, value in given.items():
        _assign(merged, key, value)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise UserError(
                f"--set takes key=value, for example training.learning_rate=1e-3, not '{assignment}'"
            )
        _assign(merged, key.strip(), yamlfile.parse(value, f"--set {key}"))
    preset = _preset_of(merged)
    complete = _merge(_shipped("presets", preset), merged) if preset else merged
    return check(RunConfig, complete, where=where, text=text)


def _read_run(source: str | None) -> tuple[dict[str, Any], str, str]:
    if source is None:
        source = "default"
    path = Path(source)
    if path.suffix in {".yaml", ".yml"} or path.exists():
        return yamlfile.read_mapping(path), str(path), path.read_text(encoding="utf-8")
    if source not in config_names("runs"):
        names = config_names("runs")
        raise UserError(
            f"'{source}' is neither a file nor a run that comes with abench{did_you_mean(source, names)}"
        )
    return _shipped("runs", source), f"configs/runs/{source}.yaml", ""


def _preset_of(merged: Mapping[str, Any]) -> str | None:
    if merged.get("preset") is not None:
        return str(merged["preset"])
    model = merged.get("model", RunConfig.model_fields["model"].default)
    if isinstance(model, str) and (model in config_names("models") or is_model_file(model)):
        return model_config(model).preset
    return None


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"'{key}' cannot be set: '{parent}' holds a value, not keys")
        tree = child
    tree[last] = value


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def check(spec: type[Spec], values: Mapping[str, Any], *, where: str, text: str = "") -> Spec:
    """`spec` built from `values`; a UserError with one sentence a mistake where they do not fit."""
    try:
        return spec.model_validate(values)
    except ValidationError as error:
        sentences = [_sentence(spec, problem, where, text) for problem in error.errors()]
        raise UserError("\n".join(sentences)) from error


def _sentence(spec: type[BaseModel], problem: Any, where: str, text: str) -> str:
    path: tuple[str | int, ...] = tuple(problem["loc"])
    line = yamlfile.line_of(text, path) if text else None
    place = f"{where}:{line}" if line else where
    key = ".".join(str(step) for step in path)
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key '{key}'{did_you_mean(str(path[-1]), _keys_at(spec, path[:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    given = f" (got {problem['input']!r})" if _is_scalar(problem["input"]) and path else ""
    return f"{place}: {key}: {message}{given}" if key else f"{place}: {message}"


def _keys_at(spec: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that `spec` knows at a key path."""
    for step in path:
        field = spec.model_fields.get(str(step))
        inner = [t for t in _types_of(field.annotation) if issubclass(t, BaseModel)] if field else []
        if not inner:
            return []
        spec = inner[0]
    return list(spec.model_fields)


def _types_of(annotation: Any) -> list[type]:
    options = getattr(annotation, "__args__", None) or (annotation,)
    return [option for option in options if isinstance(option, type)]


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool)
