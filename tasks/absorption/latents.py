"""The latents that represent a letter: ranked by an L1 probe, and added while they raise a sparse probe's F1.

Codes are sparse scipy arrays [words, latents] throughout; only a few columns at a time are made dense.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .probe import Training, train_probe

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csc_array, csr_array
    from torch import Tensor

    from abench import SAE


def encoded(sae: SAE, residual: Tensor) -> csr_array:
    """Codes [words, latents] of residuals [words, d_model], float32, in units of the residual stream.

    Raises ValueError if they are not finite.
    """
    import numpy as np

    from abench import sparse_codes

    codes = sparse_codes(sae, residual)
    if not np.isfinite(codes.data).all():
        raise ValueError("the SAE's codes of some words are not finite")
    return codes


def both_poles(codes: csr_array) -> csr_array:
    """relu([z, −z]): the codes [words, latents] with separate poles, [words, 2 · latents]."""
    from scipy.sparse import csr_array, hstack

    poles = csr_array(hstack([codes.maximum(0), (-codes).maximum(0)], format="csr"))
    poles.eliminate_zeros()
    return poles


@dataclass(frozen=True)
class PoleWeights:
    """The probe weight of each pole for each letter, positive poles first."""

    weight: Tensor
    """[2 · latents, 26], float64; 0 for a pole that never fires."""
    fires: Tensor
    """Whether a pole fires at any word, [2 · latents]."""

    @classmethod
    def learnt(
        cls,
        poles: csr_array,
        letters: Tensor,
        training: Training,
        generator: torch.Generator,
        done: Callable[[int], None],
    ) -> PoleWeights:
        """Train the L1 probe on the poles' codes [words, 2 · latents]; the weights serve both views.

        `done` receives the number of epochs so far.
        """
        import numpy as np
        import torch

        fires = np.bincount(poles.indices, minlength=poles.shape[1]) > 0
        # A pole that never fires has no gradient and stays at its initial value, zero.
        probe = train_probe(poles[:, np.flatnonzero(fires)], letters, training, generator, done=done)
        weight = torch.zeros(poles.shape[1], 26, dtype=torch.float64)
        weight[torch.from_numpy(fires)] = probe.weight
        return cls(weight, torch.from_numpy(fires))

    def of_poles(self) -> Tensor:
        """The weight of each pole as a separate latent, [2 · latents, 26], for the split view."""
        return self.weight

    def of_latents(self) -> Tensor:
        """Each latent's weight for each letter, [latents, 26]: the larger of its two poles' weights.

        sae-bench ranks latents by their signed weights, because a latent should indicate the letter where it
        fires. A single weight cannot express this for a signed latent, whose sign is arbitrary. Each pole
        therefore has its own weight, as a direction that fires on its own words, and the latent ranks where
        its better pole ranks. Flipping the latent swaps the poles and changes nothing. A pole that never
        fires does not count, so a non-negative latent has the same weight as in sae-bench.
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
    """The latents that represent a letter."""

    latents: tuple[int, ...]
    f1: float
    """F1 on the test words of the logistic regression on these latents."""


def split_latents(
    ranking: Sequence[int], train: csc_array, is_train: Any, test: csc_array, is_test: Any, *, jump: float
) -> Found:
    """The best-ranked latents, adding one more as long as F1 rises by more than `jump`.

    `train` and `test` are codes [words, latents]; `is_train` and `is_test` [words] say whether a word has the
    letter. sae-bench tries all numbers of latents and then looks for the first that does not raise F1; here
    the search stops at that number.
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
    """Test F1 of a class-balanced logistic regression on the codes of a few latents."""
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    x, y, weight = _merged(train, is_train)
    with warnings.catch_warnings():
        # sae-bench also stops after this many iterations and uses the result.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = LogisticRegression(max_iter=500).fit(x, y, sample_weight=weight)
    logits = test.toarray().astype(np.float64) @ probe.coef_[0] + probe.intercept_[0]
    return float(f1_score(is_test, logits > 0, zero_division=0.0))


def _merged(codes: csr_array, is_letter: Any) -> tuple[Any, Any, Any]:
    """Inputs, labels and weights for a class-balanced fit, with the silent words of a class merged into one.

    None of the few latents fires at most words. The losses of these words are equal, so one row with their
    total weight leaves the sum unchanged.
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
