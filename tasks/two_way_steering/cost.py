"""What two-way steering computes: continuations of stems at every setting, and their fluency."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from abench import Cost, Work

from .concepts import Sizes

if TYPE_CHECKING:
    from abench import CostSetting

_TINY_TEXT, _TEXT = 30, 200
"""Tokens of an average training text."""
_TINY_STEM = 14
_FINAL_RAYS = 6
"""Rays that are measured again on the validation stems, for the three methods of an SAE together."""
_CHOSEN = 5
"""Settings that are measured on the test stems: two ends of two methods, and one of the third."""
_REPEATED = 0.5
"""Share of the continuations that occurred before, whose fluency is known; weak pushes change no word."""
_POOLINGS = 2


class Grid(NamedTuple):
    """The options that the cost depends on."""

    concepts: int
    candidates: int
    strengths: int
    screening: int
    baselines: int
    """Number of methods that need no SAE."""


def priced(setting: CostSetting, sizes: Sizes, grid: Grid) -> Cost:
    """The cost, for continuations of full length and as many candidates as allowed."""
    tiny = setting.data.source == "tinyworld"
    sizes = sizes.limited(setting.evaluation.limit)
    stem = _TINY_STEM if tiny else sizes.stem_tokens
    screened = min(grid.screening, sizes.validation)
    texts = grid.concepts * 2 * sizes.texts * (_TINY_TEXT if tiny else _TEXT)

    def said(continuations: float, batches: float) -> Work:
        read = continuations * stem
        whole = (1 - _REPEATED) * continuations * (stem + sizes.new_tokens)
        return Work(
            lower=read + whole,
            upper=read + whole,
            logits=read + whole,
            generated=continuations * sizes.new_tokens,
            passes=batches * sizes.new_tokens + -(-whole // setting.batch_tokens),
        )

    def method(rays: int, chosen: int) -> Work:
        settings = 2 * grid.candidates * grid.strengths
        parts = (settings * screened, rays * grid.strengths * sizes.validation, chosen * sizes.test)
        return grid.concepts * said(sum(parts), len(parts))

    unsteered = grid.concepts * said(screened + sizes.validation + sizes.test, 3)
    baselines = grid.baselines * method(2, 2) + setting.read(_POOLINGS * grid.baselines * texts)
    of_sae = method(_FINAL_RAYS, _CHOSEN)
    steered = of_sae.lower + of_sae.generated
    return Cost(
        unsteered + baselines + setting.read(_POOLINGS * texts),
        of_sae + Work(encoded=_POOLINGS * texts + steered),
        assumes=f"continuations have {sizes.new_tokens} tokens",
    )
