"""A model, as its YAML file describes it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from abench.config.specs import DataSpec
from abench.spec import Prose, Spec, Word
from abench.synthetic_spec import SyntheticSpec

Layer = Annotated[int, Field(ge=0, lt=10_000)]
Latents = Annotated[int, Field(ge=1, le=10**9)]
WidthFactor = Annotated[int, Field(ge=1, le=100_000)]
ContextSize = Annotated[int, Field(ge=3, le=10**8)]
"""Tokens. Shorter contexts leave no token that is both predicted and read by the SAE."""


class ModelConfig(Spec):
    """One of configs/models/*.yaml: a language model and how the paper (or abench) uses it."""

    title: Prose
    weights: Word
    """`tinyworld`, a hub id, a local folder, or `synthetic`."""
    revision: Word | None = None
    n_layers: int = Field(ge=1, le=10_000)
    d_model: int = Field(ge=2, le=10**6)
    layers: tuple[Layer, ...] = Field(min_length=1)
    k: tuple[Latents, ...] = Field(min_length=1)
    width_factor: WidthFactor = 16
    context: ContextSize = 128
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    tasks: tuple[Word, ...] = Field(("core",), min_length=1)
    """Tasks of a run that names none."""
    preset: Word = "paper-text"
    gated: bool = False
    """Whether the hub asks for a licence to be accepted and a token."""
    data: DataSpec = DataSpec()
    eos_after_documents: bool = False
    """Whether packed documents end with EOS, as they did when the model was trained."""
    synthetic: SyntheticSpec | None = None
    """What activations are made of where there is no language model; needs `weights: synthetic`."""
    notes: Prose = ""

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
