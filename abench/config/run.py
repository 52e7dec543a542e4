"""A run as its YAML file and the command line describe it."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from abench.config.cache_spec import ActivationCacheSpec
from abench.config.model import ContextSize, Latents, Layer, WidthFactor
from abench.config.report_spec import ReportSpec
from abench.config.spec import Prose, Seed, Spec, Word
from abench.config.specs import DataSpec, EvaluationSpec, TrainingSpec
from abench.errors import did_you_mean, short
from abench.names import name_problem
from abench.sites import SITE_KINDS

_MOST_LISTED = 1000
_List = Field(None, max_length=_MOST_LISTED)


def _known_site(kind: str) -> str:
    if kind not in SITE_KINDS:
        raise ValueError(f"there is no site {short(kind)}{did_you_mean(kind, SITE_KINDS)}")
    return kind


class RunConfig(Spec):
    """A run: model x layers x sites x variants x k x widths x seeds, further SAEs, and the tasks."""

    name: Word = "default"
    """Name of the report folder."""
    description: Prose = ""
    """What the run is for; `abench list configs` shows it."""
    model: Word = "tiny"
    """A name from `abench list models`, a local Hugging Face folder, a GGUF file or a hub id."""
    preset: Word | None = None
    """Training preset from configs/presets; null uses the model's."""
    layers: tuple[Layer, ...] | None = _List
    """Blocks, counted from 0, or `early`, `middle`, `late`; null uses the model's."""
    sites: tuple[Annotated[Word, AfterValidator(_known_site)], ...] = Field(
        ("resid_post",), max_length=_MOST_LISTED
    )
    """What SAEs read at each block: the residual stream after it, or what its attention (`attn_out`) or its
    MLP (`mlp_out`) adds to the residual stream."""
    saes: tuple[Word, ...] = Field((), max_length=_MOST_LISTED)
    """SAEs to score as they are: folders, files or names on the hub (`abench import` shows what is understood
    of one). A run with `saes` and without `variants` trains nothing."""
    variants: tuple[Word, ...] = Field(("abstopk", "topk", "jumprelu"), max_length=_MOST_LISTED)
    """SAEs to train: names from `abench list variants`."""
    sae_site: Word | None = None
    """The site that all of `saes` read, e.g. blocks.6.hook_resid_post; null uses what their files state."""
    variant_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of variants, by variant: `{jumprelu: {bandwidth: 0.01}}`."""
    k: tuple[Latents, ...] | None = _List
    """Active latents per token; null uses the model's."""
    width: tuple[Annotated[Latents, Field(ge=2)], ...] | None = _List
    """Latents per SAE, one number or several; null uses width_factor times d_model."""
    width_factor: WidthFactor | None = None
    """Latents per SAE as a multiple of d_model, in place of width; null uses the model's."""
    seeds: tuple[Seed, ...] = Field((0,), max_length=_MOST_LISTED)
    """Seeds of the SAEs' initial weights; tables show mean ± sd over them."""
    tasks: tuple[Word, ...] | None = _List
    """Names from `abench list tasks`, or `all`; null uses the model's."""
    task_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of tasks, by task."""
    metrics: tuple[Word, ...] | None = _List
    """Metrics of the report, which then has one table with these columns in this order; null shows each
    task's headline metrics in a table of its own."""
    report: ReportSpec = ReportSpec()
    context: ContextSize | None = None
    """Tokens per context; null uses the model's."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Precision of the language model; null uses the model's."""
    training: TrainingSpec = TrainingSpec()
    """How SAEs are trained."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """How they are scored."""
    data: DataSpec | None = None
    """Text for training and evaluation; null uses the model's."""
    activation_cache: ActivationCacheSpec | None = None
    """Where runs and sites share what the model computes from the training text, and its size; null: nowhere.
    Changes no number and no key."""

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

    @model_validator(mode="before")
    @classmethod
    def _saes_instead_of_variants(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("saes") and "variants" not in values:
            return {**values, "variants": ()}
        return values

    @model_validator(mode="after")
    def _has_saes_for_the_site(self) -> "RunConfig":
        if self.sae_site is not None and not self.saes:
            raise ValueError("sae_site has no effect without saes")
        return self

    @field_validator("layers", "sites", "variants", "saes", "k", "width", "seeds", "tasks", "metrics")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...] | None, info: ValidationInfo) -> tuple[Any, ...] | None:
        # A bound on the type would be reported a second time if an item is wrong as well.
        may_be_empty = info.field_name == "saes" or (info.field_name == "variants" and info.data.get("saes"))
        if values is not None and not values and not may_be_empty:
            raise ValueError("at least one is needed")
        repeated = [str(value) for value, times in Counter(values or ()).items() if times > 1]
        if repeated:
            raise ValueError(f"given more than once: {', '.join(sorted(repeated))}")
        return values
