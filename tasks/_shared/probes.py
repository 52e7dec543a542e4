"""Logistic-regression probes of one class against the rest, on a few columns of codes or activations.

The rows of a probe are drawn once from a seed, in sae-bench's order, so that every SAE of a comparison is
probed on the same texts and sae-bench's own functions give the same numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from abench import PoleCodes

Rows: TypeAlias = "NDArray[np.int64]"


@dataclass(frozen=True)
class Half:
    """The texts for fitting or for testing a probe: as many of the class as of the rest."""

    rows: Rows
    """Row indices of texts, each at most once."""
    labels: NDArray[np.int64]
    """1 for the class, 0 for the rest."""


@dataclass(frozen=True)
class Problem:
    """One class against the rest."""

    name: str
    train: Half
    test: Half


@dataclass(frozen=True)
class Columns:
    """The units that best separate each class, with their values; nothing else is ever made dense."""

    best: Rows
    """[k, problems]: units with the largest difference of means between class and rest, largest first."""
    units: Rows
    """The distinct units in `best`, sorted."""
    values: NDArray[np.float32]
    """[texts, units]."""

    def of(self, problem: int, k: int) -> NDArray[np.float32]:
        """Values of a problem's best k units, [texts, k]."""
        import numpy as np

        places = np.searchsorted(self.units, np.sort(self.best[:k, problem]))
        values: NDArray[np.float32] = self.values[:, places]
        return values


def one_against_rest(train: Mapping[str, range], test: Mapping[str, range], seed: int) -> list[Problem]:
    """One problem per class, given the rows of each class in each half; all classes have the same size.

    The rest is an even mixture of the other classes. sae-bench's `train_probe_on_activations` draws the same
    rows in the same order after `torch.manual_seed(seed)`.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    return [Problem(name, _half(train, name, generator), _half(test, name, generator)) for name in train]


def _half(classes: Mapping[str, range], name: str, generator: torch.Generator) -> Half:
    import numpy as np
    import torch

    def shuffled(rows: Rows) -> Rows:
        in_order: Rows = rows[torch.randperm(len(rows), generator=generator).numpy()]
        return in_order

    positive = np.asarray(classes[name])
    others = [np.asarray(rows) for other, rows in classes.items() if other != name]
    share = -(-len(positive) // len(others))
    negative = shuffled(np.concatenate([shuffled(rows)[:share] for rows in others]))[: len(positive)]
    rows = np.concatenate([positive, negative])
    order = shuffled(np.arange(len(rows)))
    return Half(rows[order], (order < len(positive)).astype(np.int64))


def best_columns(source: PoleCodes | NDArray[np.float32], problems: Sequence[Problem], k: int) -> Columns:
    """The k units of `source` [texts, units] whose means differ most between a problem's training classes.

    For codes, the absolute difference of signed means is used, so flipping a latent's sign changes nothing.
    """
    import numpy as np

    from abench import PoleCodes

    texts = (source.positive if isinstance(source, PoleCodes) else source).shape[0]
    differences = np.abs(_mean_differences(source, _weights(problems, texts)))
    best: Rows = np.argsort(-differences, axis=0, kind="stable")[:k]
    units = np.unique(best)
    values = source.columns(units).numpy() if isinstance(source, PoleCodes) else source[:, units]
    return Columns(best, units, values)


def _weights(problems: Sequence[Problem], texts: int) -> NDArray[np.float64]:
    """Weights [texts, problems]; values [units, texts] @ weights are the differences of means."""
    import numpy as np

    weights = np.zeros((texts, len(problems)))
    for number, problem in enumerate(problems):
        positive = problem.train.labels == 1
        weights[problem.train.rows, number] = np.where(positive, 1 / positive.sum(), -1 / (~positive).sum())
    return weights


def _mean_differences(
    source: PoleCodes | NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    import numpy as np

    from abench import PoleCodes

    if not isinstance(source, PoleCodes):
        return np.asarray(source.T.astype(np.float64) @ weights)
    positive = np.asarray(source.positive.T @ weights)
    return positive if source.negative is None else positive - np.asarray(source.negative.T @ weights)


def held_out_accuracy(values: NDArray[np.float32], problem: Problem) -> float:
    """Test accuracy of a logistic regression (L2, C = 1) on `values` [texts, columns]."""
    # Imported late to save half a second when all results are already in the results folder.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probe: Any = LogisticRegression(max_iter=1000)
    with warnings.catch_warnings():
        # If 1000 iterations do not converge, sae-bench uses their result too.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(values[problem.train.rows], problem.train.labels)
    return float(probe.score(values[problem.test.rows], problem.test.labels))
