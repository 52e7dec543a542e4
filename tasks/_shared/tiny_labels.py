"""The tiny world's labels of a token."""

from __future__ import annotations

from abench.tinyworld import labels


def labels_of(token: str) -> frozenset[str]:
    """The labels of a token of the tiny world; empty for function words and punctuation.

    They are its concepts and poles (`profession:nurse`, `gender+`) and the category of a concept
    (`profession`).
    """
    known = labels().get(token.strip(), ())
    return frozenset((*known, *(label.split(":")[0] for label in known if ":" in label)))
