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
    """The numbers of latents of the nested prefixes, the whole width last.

    Raises UserError where rounding leaves a prefix empty or two alike.
    """
    widths = [*(round(fraction * width) for fraction in fractions), width]
    if any(wider <= narrower for narrower, wider in pairwise([0, *widths])):
        raise UserError(
            f"the prefixes {', '.join(map(str, fractions))} of {width} latents are {widths}: each must hold "
            "more than the one before; give fewer prefixes or a larger width"
        )
    return widths


class Matryoshka(BatchTopK):
    """The Matryoshka SAE: k non-negative latents per token on average, chosen as BatchTopK does.

    The loss is the sum of the squared errors of the reconstructions from the first m latents, for every
    prefix m: early latents learn what is frequent and general, and are not emptied by later, more special
    ones (Bussmann et al. 2025, arXiv 2503.17547). The operator is BatchTopK's, and so is inference: one
    threshold, set by `calibrate`, and sae-lens's JumpReLU class.
    """

    name: ClassVar[str] = "matryoshka"
    title: ClassVar[str] = "Matryoshka"
    regulariser: ClassVar[str] = "R(Z) = ι(‖Z‖₀ ≤ k·batch, Z ≥ 0), nested reconstructions"

    # The source's: groups of 1/32, 1/16, 1/8, 1/4 and the rest.
    prefixes: tuple[Fraction, ...] = Field(
        default=(1 / 32, 3 / 32, 7 / 32, 15 / 32), min_length=1, max_length=100
    )
    """Nested prefixes as ascending fractions of the width; the whole width always follows."""

    @field_validator("prefixes")
    @classmethod
    def _ascending(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise(fractions)):
            raise ValueError("the fractions must ascend")
        return fractions

    def training_config(self, shape: SAEShape) -> MatryoshkaBatchTopKTrainingSAEConfig:
        """sae-lens's "matryoshka_batchtopk" architecture. UserError if a prefix is empty or not distinct."""
        from sae_lens import MatryoshkaBatchTopKTrainingSAEConfig

        return MatryoshkaBatchTopKTrainingSAEConfig(
            **shape.common(),
            k=shape.k,
            decoder_init_norm=self.decoder_init_norm,
            aux_loss_coefficient=self.aux_loss_coefficient,
            matryoshka_widths=prefix_widths(self.prefixes, shape.width),
        )
