"""Contexts of latents for a page: tokens shaded by the latent's value, with one colour per sign."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abench.report.bidirectionality import POLES
from abench.report.frame import Record
from abench.report.rows import stored
from abench.report.saes import sae_name
from abench.report.style import Styles

POSITIVE, NEGATIVE = "213, 94, 0", "0, 114, 178"
"""Red, green, blue of the two signs; distinguishable with common forms of colour blindness."""
_KINDS = {
    "opposites": "bidirectional, opposites",
    "bidirectional": "bidirectional",
    "unidirectional": "unidirectional",
    "none": "none",
}

Excerpt = Mapping[str, Any]
"""`tokens`, `values` and `peak` of an excerpt, as plain JSON."""
Shaded = list[dict[str, Any]]
"""One entry per token: `text`, `style`, `peak`, `value`."""


def examples(records: Sequence[Record], styles: Styles) -> list[dict[str, Any]]:
    """The page's examples: each SAE's name, and its latents with their contexts."""
    shown = sorted(stored(records, POLES), key=lambda record: tuple(map(str, record["labels"].values())))
    return [
        {"sae": _name(record, styles), "latents": list(_latents(record["details"][POLES]))}
        for record in shown
        if record["details"][POLES]["examples"]
    ]


def sides_of(latent: Mapping[str, Any], *, signed: bool) -> list[dict[str, Any]]:
    """The two sides of a latent with their titles and shaded contexts."""
    contexts = [*latent["positive"], *latent["negative"]]
    greatest = max((abs(value) for each in contexts for value in each["values"]), default=0.0)
    negative = "negative" if signed else "lowest pre-activation"
    return [
        {"title": title, "contexts": [shaded(each, greatest) for each in latent[side]]}
        for side, title in (("positive", "positive"), ("negative", negative))
    ]


def shaded(excerpt: Excerpt, greatest: float) -> Shaded:
    """The tokens with their styles; `greatest` is the value shown in full colour."""
    pairs = zip(excerpt["tokens"], excerpt["values"], strict=True)
    return [
        {
            "text": str(token).replace("\n", "↵"),
            "style": _style(float(value), greatest),
            "peak": place == excerpt["peak"],
            "value": f"{float(value):.3g}",
        }
        for place, (token, value) in enumerate(pairs)
    ]


def _style(value: float, greatest: float) -> str:
    strength = abs(value) / greatest if greatest else 0.0
    if strength < 0.02:
        return ""
    return f"background: rgba({POSITIVE if value > 0 else NEGATIVE}, {0.75 * min(1.0, strength):.2f})"


def _name(record: Record, styles: Styles) -> str:
    labels = record["labels"]
    return f"{labels['model']}, {labels['site']}: {sae_name(labels, styles)}"


def _latents(poles: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for latent in poles["examples"]:
        yield {
            "title": _title(latent),
            "about": _about(latent["about"]),
            "sides": sides_of(latent, signed=poles["signed"]),
        }


def _title(latent: Mapping[str, Any]) -> str:
    concepts = f", {'; '.join(latent['concepts'])}" if latent.get("concepts") else ""
    return f"latent {latent['latent']}{concepts}: {_KINDS.get(latent['kind'], latent['kind'])}"


def _about(sides: Sequence[str]) -> str:
    parts = zip(("positive", "negative"), sides, strict=True)
    return "; ".join(f"{side}: {text}" for side, text in parts if text)
