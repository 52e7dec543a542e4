"""One run, as its YAML file and the command line describe it."""

from typing import Any, Literal

from pydantic import Field, field_validator

from abench.config.specs import DataSpec, EvaluationSpec, Frozen, TrainingSpec
from abench.names import name_problem


class RunConfig(Frozen):
    """One run: model x layers x variants x k x seeds, and the tasks that score every SAE."""

    name: str = "default"
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

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if problem := name_problem(name):
            raise ValueError(problem)
        return name

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
