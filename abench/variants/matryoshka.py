"""Matryoshka: BatchTopK whose first latents must also reconstruct on their own."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, field_validator

from abench.errors import UserError
from abench.variants.base import SAEShape
from abench.variants.batchtopk import BatchTopK

if TYPE_CHECKING:
    from sae_lens import MatryoshkaBatchTopKTrainingSAEConfig

Fraction = Annotated[float, Field(gt=0, lt=1)]


def prefix_widths(fractions: tuple[float, ...], width: int) -> list[int]:
    """The numbers of latents of the nested prefixes, the full width last.

    Raises UserError if rounding leaves a prefix empty or two prefixes equal.
    """
    widths = [*(round(fraction * width) for fraction in fractions), width]
    if any(wider <= narrower for narrower, wider in pairwise([0, *widths])):
        raise UserError(
            f"the prefixes {', '.join(map(str, fractions))} of {width} latents are {widths}: each must be "
            "larger than the one before; use fewer prefixes or a larger width"
        )
    return widths


class Matryoshka(BatchTopK):
    """The Matryoshka SAE: on average k non-negative latents per token, selected as in BatchTopK.

    The loss is the sum, over all prefixes m, of the squared error of the reconstruction from the first m
    latents: early latents learn frequent, general features, which later, more specific latents do not absorb
    (Bussmann et al. 2025, arXiv 2503.17547). Operator and inference are those of BatchTopK: one threshold,
    set by `calibrate`, and sae-lens's JumpReLU class.
    """

    name: ClassVar[str] = "matryoshka"
    title: ClassVar[str] = "Matryoshka"
    regulariser: ClassVar[str] = "R(Z) = ι(‖Z‖₀ ≤ k·batch, Z ≥ 0), nested reconstructions"

    # As in the source: groups of 1/32, 1/16, 1/8, 1/4 and the rest.
    prefixes: tuple[Fraction, ...] = Field(
        default=(1 / 32, 3 / 32, 7 / 32, 15 / 32), min_length=1, max_length=100
    )
    """Nested prefixes as ascending fractions of the width; the full width is always added."""

    @field_validator("prefixes")
    @classmethod
    def _ascending(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise(fractions)):
            raise ValueError("the fractions must ascend")
        return fractions

    def training_config(self, shape: SAEShape) -> MatryoshkaBatchTopKTrainingSAEConfig:
        """sae-lens's "matryoshka_batchtopk" architecture. Raises UserError for empty or equal prefixes."""
        from sae_lens import MatryoshkaBatchTopKTrainingSAEConfig

        return MatryoshkaBatchTopKTrainingSAEConfig(
            **self.selection(shape),
            matryoshka_widths=prefix_widths(self.prefixes, shape.width),
        )
