"""One run, as its YAML file and the command line describe it."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from abench.config.model import ContextSize, Latents, Layer, WidthFactor
from abench.config.specs import DataSpec, EvaluationSpec, TrainingSpec
from abench.names import name_problem
from abench.spec import Prose, Seed, Spec, Word

_MOST_LISTED = 1000
_List = Field(None, max_length=_MOST_LISTED)


class RunConfig(Spec):
    """One run: model x layers x variants x k x seeds, and the tasks that score every SAE."""

    name: Word = "default"
    """Name of the report folder."""
    description: Prose = ""
    model: Word = "tiny"
    """A name from `abench list models`, a local Hugging Face folder, or a hub id."""
    preset: Word | None = None
    """Training preset, from configs/presets; null takes the model's."""
    layers: tuple[Layer, ...] | None = _List
    """Sites: the residual stream after these blocks, counted from 0; null takes the model's."""
    variants: tuple[Word, ...] = Field(("abstopk", "topk", "jumprelu"), max_length=_MOST_LISTED)
    variant_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of variants, by variant: `{jumprelu: {bandwidth: 0.01}}`."""
    k: tuple[Latents, ...] | None = _List
    """Active latents per token; null takes the model's."""
    width: tuple[Annotated[Latents, Field(ge=2)], ...] | None = _List
    """Latents an SAE, one number or several; null is width_factor times the model's width."""
    width_factor: WidthFactor | None = None
    seeds: tuple[Seed, ...] = Field((0,), max_length=_MOST_LISTED)
    """Seeds of the SAEs' initial weights; tables show mean ± sd over them."""
    tasks: tuple[Word, ...] | None = _List
    """Names from `abench list tasks`, or `all`; null takes the model's."""
    task_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of tasks, by task."""
    metrics: tuple[Word, ...] | None = _List
    """Metrics that the table shows; null shows each task's headline metrics."""
    context: ContextSize | None = None
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
        # Not by a bound of the type, which pydantic reports once more where an item is wrong.
        if values is not None and not values:
            raise ValueError("at least one is needed")
        repeated = [str(value) for value, times in Counter(values or ()).items() if times > 1]
        if repeated:
            raise ValueError(f"given more than once: {', '.join(sorted(repeated))}")
        return values
