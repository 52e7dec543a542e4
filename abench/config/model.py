"""A model, as its YAML file describes it."""

from typing import Literal

from pydantic import Field, model_validator

from abench.config.specs import DataSpec, Frozen
from abench.synthetic_spec import SyntheticSpec


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
