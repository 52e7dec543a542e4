"""How well a latent's firing marks the words with a known label, on texts that come with labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

LEAST_WORDS = 20
"""A label counts only if at least this many of the read tokens carry it: a rarer one is matched by chance."""


@dataclass(frozen=True)
class Followed:
    """The label that one side of a latent follows best."""

    label: str
    f1: float
    """Harmonic mean of precision (the share of the side's firings that are on a token with the label) and
    recall (the share of the tokens with the label on which the side fires)."""


class WordLabels:
    """Counts, over batches of tokens, how often each side of each latent fires on tokens with each label."""

    def __init__(self, known: Mapping[str, Sequence[str]], pieces: Sequence[str]) -> None:
        """`known` gives the labels of words; `pieces` is the text of every token id."""
        self.names = sorted({label for labels in known.values() for label in labels})
        place = {label: number for number, label in enumerate(self.names)}
        pairs = [
            (token, place[label])
            for token, piece in enumerate(pieces)
            for label in known.get(piece.strip(), ())
        ]
        rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        shape = (len(pieces), len(self.names))
        self._of_token = csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape)
        self._words = np.zeros(len(self.names), np.int64)
        self._together: list[Any] = []

    def add(self, tokens: "np.ndarray[Any, Any]", fired: Sequence[csr_array]) -> None:
        """Count token ids [tokens] and, of each side, 1 where a latent fires, sparse [tokens, latents]."""
        labels = self._of_token[tokens]
        self._words += np.asarray(labels.sum(axis=0))
        found = [csr_array(labels.T @ side) for side in fired]
        before = self._together or [csr_array(each.shape, dtype=each.dtype) for each in found]
        self._together = [csr_array(a + b) for a, b in zip(before, found, strict=True)]

    def best(self, firings: "np.ndarray[Any, Any]") -> list[list[Followed | None]]:
        """For each side the best label of each latent, given the firings [2, latents] of the sides.

        None for a side that never fires on a word with a label.
        """
        return [self._best(*pair) for pair in zip(self._together, firings, strict=True)]

    def _best(self, together: csr_array, firings: "np.ndarray[Any, Any]") -> list[Followed | None]:
        entries = together.tocoo()
        labels, latents = entries.row, entries.col
        f1 = 2 * entries.data / (self._words[labels] + firings[latents])
        found: list[Followed | None] = [None] * int(together.shape[1])
        usual = self._words[labels] >= LEAST_WORDS
        # In ascending order, so that the last one written is the best; among equals, the first label.
        for at in np.lexsort((-labels, f1)):
            if usual[at]:
                found[int(latents[at])] = Followed(self.names[int(labels[at])], float(f1[at]))
        return found
