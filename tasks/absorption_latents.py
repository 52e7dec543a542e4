"""Which latents stand for a letter: ranked by an L1 probe, then as many as raise the F1 of a sparse probe.

Sparse throughout: codes are scipy arrays [words, latents], made dense a few columns at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .absorption_probe import Training, train_probe

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csc_array, csr_array
    from torch import Tensor


def encoded(sae: Any, residual: Tensor) -> csr_array:
    """Codes [words, latents] of residuals [words, d_model] in units of the residual stream, float32.

    Raises ValueError if they are not finite.
    """
    import numpy as np

    from abench import sparse_codes

    codes = sparse_codes(sae, residual)
    if not np.isfinite(codes.data).all():
        raise ValueError("the SAE's codes of some words are not finite")
    return codes


def both_poles(codes: csr_array) -> csr_array:
    """relu([z, −z]): codes [words, latents] with the poles apart, [words, 2 · latents]."""
    from scipy.sparse import csr_array, hstack

    poles = csr_array(hstack([codes.maximum(0), (-codes).maximum(0)], format="csr"))
    poles.eliminate_zeros()
    return poles


@dataclass(frozen=True)
class PoleWeights:
    """What each pole says about each letter, positive poles first."""

    weight: Tensor
    """[2 · latents, 26], float64; 0 for a pole that never fires."""
    fires: Tensor
    """[2 · latents], whether a pole fires at any word."""

    @classmethod
    def learnt(
        cls, poles: csr_array, letters: Tensor, training: Training, generator: torch.Generator
    ) -> PoleWeights:
        """The L1 probe's weights on the poles' codes [words, 2 · latents], the same in both views."""
        import numpy as np
        import torch

        fires = np.bincount(poles.indices, minlength=poles.shape[1]) > 0
        # A pole that never fires has no gradient and stays where it starts, at zero.
        probe = train_probe(poles[:, np.flatnonzero(fires)], letters, training, generator)
        weight = torch.zeros(poles.shape[1], 26, dtype=torch.float64)
        weight[torch.from_numpy(fires)] = probe.weight
        return cls(weight, torch.from_numpy(fires))

    def of_poles(self) -> Tensor:
        """The weight of each pole as a latent of its own, [2 · latents, 26]: the split view's."""
        return self.weight

    def of_latents(self) -> Tensor:
        """Each latent's weight toward each letter, [latents, 26]: that of its pole which says more for it.

        sae-bench ranks the latents by their weights with sign, because a latent should speak for the letter
        where it fires. Of a signed latent one weight cannot tell that: its sign is arbitrary. So both poles
        are weighed, each as what it is, a direction that fires on words of its own; the latent stands where
        its better pole stands. Turning the latent round exchanges the poles and changes nothing. A pole
        that never fires is no candidate, so a non-negative latent has the weight sae-bench gives it.
        """
        import torch

        never = torch.full_like(self.weight, -torch.inf)
        positive, negative = torch.where(self.fires[:, None], self.weight, never).chunk(2)
        best = torch.maximum(positive, negative)
        return torch.where(best.isinf(), 0.0, best)


def ranked(weights: Tensor, number: int) -> Tensor:
    """The latents with the largest weights [latents, 26] for each letter, best first, [26, number]."""
    return weights.topk(min(number, len(weights)), dim=0).indices.T


@dataclass(frozen=True)
class Found:
    """The latents that stand for a letter."""

    latents: tuple[int, ...]
    f1: float
    """On words that nothing was learnt from, of the logistic regression on them."""


def split_latents(
    ranking: Sequence[int], train: csc_array, is_train: Any, test: csc_array, is_test: Any, *, jump: float
) -> Found:
    """The best-ranked latents, one more as long as F1 rises by more than `jump`.

    `train`, `test` are codes [words, latents], `is_train`, `is_test` [words] whether a word has the letter.
    sae-bench tries all numbers of latents and then looks for the first that does not raise F1; here the
    search ends there.
    """
    found: Found | None = None
    for k in range(1, len(ranking) + 1):
        chosen = [int(latent) for latent in ranking[:k]]
        f1 = sparse_f1(train[:, chosen].tocsr(), is_train, test[:, chosen], is_test)
        if found is not None and not f1 > found.f1 + jump:
            break
        found = Found(tuple(chosen), f1)
    if found is None:
        raise ValueError("there are no latents to rank")
    return found


def sparse_f1(train: csr_array, is_train: Any, test: csc_array, is_test: Any) -> float:
    """F1 on the test words of a class-balanced logistic regression on a few latents' codes."""
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    x, y, weight = _merged(train, is_train)
    with warnings.catch_warnings():
        # sae-bench stops after as many iterations and takes what is there.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = LogisticRegression(max_iter=500).fit(x, y, sample_weight=weight)
    logits = test.toarray().astype(np.float64) @ probe.coef_[0] + probe.intercept_[0]
    return float(f1_score(is_test, logits > 0, zero_division=0.0))


def _merged(codes: csr_array, is_letter: Any) -> tuple[Any, Any, Any]:
    """Inputs, labels and weights for a class-balanced fit, with the silent words of a class made one.

    At most words none of the few latents fires; their losses are equal, so one row with their joint weight
    leaves the sum as it was.
    """
    import numpy as np

    label = np.asarray(is_letter, dtype=np.int64)
    share = len(label) / (2 * np.bincount(label, minlength=2))
    speaks = np.diff(codes.indptr) > 0
    silent = np.bincount(label[~speaks], minlength=2)
    x = np.concatenate([codes[np.flatnonzero(speaks)].toarray(), np.zeros((2, codes.shape[1]))])
    y = np.concatenate([label[speaks], [0, 1]])
    weight = np.concatenate([share[label[speaks]], share * silent])
    present = weight > 0
    return x[present].astype(np.float64), y[present], weight[present]
