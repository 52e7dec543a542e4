"""The ranked latents of an SAE as a table: for the terminal, and as a page that links to their cards."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from abench.report.latent_page import template
from abench.sanitize.printable import all_visible, visible
from abench.tinyworld.lexicon import described

if TYPE_CHECKING:
    from abench.latents.ranked import RankedLatent
    from abench.latents.word_labels import Followed

_HEADINGS = (
    *("latent", "rate+", "rate−", "two-sided", "strongest +", "strongest −"),
    *("opposite", "its cosine", "drift"),
)
_FOLLOWS = ("+ follows (F1)", "− follows (F1)")
_LEAST_F1 = 0.1
"""A side whose best label has a lower F1 score follows none; the JSON has it all the same."""


def sentence(about: Mapping[str, Any]) -> str:
    """What is ranked and among how many latents, from `by`, `definition` and the counts of a list."""
    return (
        f"ranked by {about['by']}: {about['definition']};\namong the {about['counted']:,} of "
        f"{about['width']:,} latents that fire on at least {about['least_firings']} of {about['tokens']:,} "
        "held-out tokens"
    )


def headings(latent: "RankedLatent") -> list[str]:
    """The headings of the columns of `row`."""
    return [*_HEADINGS, *(() if latent.follows is None else _FOLLOWS)]


def row(latent: "RankedLatent") -> list[str | None]:
    """One latent's cells as text; None for what it does not have."""
    follows = latent.follows or ()
    return [
        str(latent.latent),
        *(f"{rate:.3%}" for rate in latent.rates),
        f"{latent.two_sided:.3f}",
        *(None if peak is None else repr(peak) for peak in latent.peaks),
        None if latent.opposite is None else str(latent.opposite),
        None if latent.opposite_cosine is None else f"{latent.opposite_cosine:+.3f}",
        None if latent.drift is None else f"{latent.drift:+.3f}",
        *map(_followed, follows),
    ]


def _followed(side: "Followed | None") -> str | None:
    return None if side is None or side.f1 < _LEAST_F1 else f"{described(side.label)} {side.f1:.2f}"


def latent_list(
    title: str, about: Mapping[str, Any], latents: "Sequence[RankedLatent]", cards: Mapping[int, str]
) -> str:
    """The HTML page of a list; `cards` gives the file of a latent's card, relative to the page."""
    links = {str(latent): quote(file) for latent, file in cards.items()}
    return template("latent_list.html.j2").render(
        title=visible(title),
        sentence=sentence(about),
        headings=headings(latents[0]) if latents else [],
        rows=all_visible([row(latent) for latent in latents]),
        links=links,
    )
