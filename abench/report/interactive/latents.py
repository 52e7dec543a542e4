"""The latent browser's data: contexts of some latents per SAE, packed so that hundreds fit a page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from abench.report.frame import Record
from abench.report.saes import sae_name
from abench.report.style import Styles
from abench.sanitize.printable import visible

FULL = 99
"""The integer that stands for the largest value of a latent."""

Contexts = Mapping[str, Any]
"""The contexts of an SAE's latents, as `abench.runs.latent_contexts` stores them."""


class Words:
    """Tokens by number, because most of them occur many times."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, token: str) -> int:
        """The number of a token, whose line breaks become visible."""
        shown = visible(str(token).replace("\n", "↵"))
        return self.numbers.setdefault(shown, len(self.numbers))


def latent_data(
    records: Iterable[Record], contexts: Mapping[str, Contexts], styles: Styles
) -> dict[str, Any] | None:
    """`words`, and `saes` with the latents of each; None if no contexts are stored.

    A latent is [number, positive rate, negative rate, opposite latent, its cosine, largest value, positive
    contexts, negative contexts]; a context is [peak, words, values], with values as integers up to ±FULL.
    """
    labels = {record["sae_key"]: record["labels"] for record in records}
    words = Words()
    saes = [
        {
            "name": f"{mine['model']}, {mine['site']}: {sae_name(mine, styles)}",
            "labels": {name: mine[name] for name in ("model", "site", "variant", "k")},
            **{name: contexts[key][name] for name in ("tokens", "width", "alive", "signed")},
            "latents": [_latent(each, words) for each in contexts[key]["latents"]],
        }
        for key, mine in labels.items()
        if key in contexts
    ]
    return {"words": list(words.numbers), "saes": saes} if saes else None


def _latent(latent: Mapping[str, Any], words: Words) -> list[Any]:
    sides = [latent["positive"], latent["negative"]]
    greatest = max((abs(v) for side in sides for each in side for v in each["values"]), default=0.0)
    packed = [[_context(each, greatest, words) for each in side] for side in sides]
    return [latent["latent"], *latent["rates"], *latent["opposite"], greatest, *packed]


def _context(excerpt: Mapping[str, Any], greatest: float, words: Words) -> Sequence[Any]:
    values = [round(FULL * float(value) / greatest) if greatest else 0 for value in excerpt["values"]]
    return [excerpt["peak"], [words.number(token) for token in excerpt["tokens"]], values]
