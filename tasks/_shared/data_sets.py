"""Labelled data sets as the parts of a score, which is the mean over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from abench import Amount, Context, Parts, problems_of, usable_parts

from .settings import setting

DataSets: TypeAlias = tuple[str, ...] | Literal["available"] | None
"""Names of data sets; `available` stands for those that can be read and have enough texts, None for all."""


def usable_data_sets(
    task: str,
    asked: DataSets,
    default: Sequence[str],
    check: Callable[[str, Context], object],
    ctx: Context,
) -> Parts:
    """The data sets to score on, without a look at any SAE.

    `check(name, ctx)` raises Skip or UserError for a data set that cannot be used. All such data sets are
    named in one error, unless only those that are `available` are wanted and there are any.
    """

    def find() -> Parts:
        names = default if asked is None or asked == "available" else asked
        # What a check reads is not yet used.
        unrecorded = replace(ctx, used=_discard)
        problems = problems_of(names, lambda name: check(name, unrecorded))
        usable = ", ".join(name for name in names if name not in problems)
        return usable_parts(
            "data sets",
            names,
            problems,
            available=asked == "available",
            go_on=f"score the others with {setting(task, 'datasets', f'[{usable}]')}",
            not_selected=[name for name in default if name not in names],
        )

    return ctx.once("data sets", find)


def _discard(_amount: Amount) -> None:
    """Discard an amount."""
