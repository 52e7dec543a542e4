"""A classifier of texts that tells the two poles of a concept apart, for texts without known labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abench.judges import Share, share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STRENGTH = 10.0
"""Inverse penalty of the logistic regression; TF-IDF vectors have length 1, so it is weak."""


class TextClassifier:
    """Logistic regression on TF-IDF of words, pairs of words and parts of words.

    It has seen neither the texts in which methods find the concept nor the texts whose beginnings are
    continued.
    """

    name = "classifier"

    def __init__(self, negative: Sequence[str], positive: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline, make_union

        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
        self._model: Any = make_pipeline(
            make_union(words, parts), LogisticRegression(C=_STRENGTH, max_iter=1000)
        )
        self._model.fit([*negative, *positive], [0] * len(negative) + [1] * len(positive))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[texts]: 1 for the positive pole, 0 for the negative one; 1/2 for a text without any letter."""
        import numpy as np

        found = np.full(len(texts), 0.5)
        said = [place for place, text in enumerate(texts) if any(map(str.isalnum, text))]
        if said:
            found[said] = self._model.predict([texts[place] for place in said])
        return found

    def accuracy(self, negative: Sequence[str], positive: Sequence[str]) -> Share:
        """The share of texts of either pole that it classifies correctly, with its 95 % interval."""
        right = int((self(negative) == 0).sum() + (self(positive) == 1).sum())
        return share(right, len(negative) + len(positive))
