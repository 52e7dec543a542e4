"""Linear probes on mean residual streams, trained as in sae-bench, many at once.

All probes that learn from the same number of texts are trained together as one matrix [probes, d_model].
AdamW works element by element, so each probe comes out as if it were trained alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from .passes import unseen

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ProbeSettings(BaseModel):
    """Data and training settings of probes, with sae-bench's values as defaults."""

    train: int | None = Field(None, ge=4, le=10**7)
    """Training texts per probe; null means 4000, or 800 in the tiny world."""
    test: int | None = Field(None, ge=4, le=10**7)
    """Test texts per probe; null means 1000, or 400 in the tiny world."""
    context: int = Field(128, ge=2, le=10**7)
    """Tokens read per text, including BOS."""
    probe_epochs: int = Field(20, ge=1, le=100_000)
    """Most passes over the training texts."""
    probe_batch_size: int = Field(16, ge=1, le=10**7)
    """Texts per step. It affects how strongly a probe learns a spurious correlation (SAEBench's appendix)."""
    probe_lr: float = Field(1e-3, gt=0, le=1e6)
    """Adam's learning rate."""
    probe_l1: float = Field(1e-3, ge=0, le=1e6)
    """Coefficient of the sum of |weights| in the loss."""
    probe_patience: int = Field(20, ge=1, le=100_000)
    """Epochs without a better test accuracy after which training stops and the best probe is used."""

    def sizes(self, *, tiny: bool) -> dict[str, int]:
        """The numbers of texts, as `train` and `test`."""
        train, test = (800, 400) if tiny else (4000, 1000)
        return {"train": self.train or train, "test": self.test or test}


@dataclass(frozen=True)
class ProbeQuestion:
    """Two groups of texts for a probe to tell apart: rows of an array of texts, equally many per group."""

    positive: Tensor
    """[n], int64."""
    negative: Tensor
    """[n], int64."""

    @property
    def rows(self) -> Tensor:
        """All rows, [2n], the positive ones first."""
        import torch

        return torch.cat([self.positive, self.negative])

    @property
    def labels(self) -> Tensor:
        """Labels of `rows`, [2n]: 1 for positive and 0 for negative."""
        import torch

        return torch.cat([torch.ones(len(self.positive)), torch.zeros(len(self.negative))])

    def contrast(self, texts: int) -> Tensor:
        """Weights [texts] whose weighted sum of all texts' values is mean(positive) − mean(negative)."""
        import torch

        weights = torch.zeros(texts, dtype=torch.float64)
        weights[self.positive] = 1 / len(self.positive)
        weights[self.negative] = -1 / len(self.negative)
        return weights

    def accuracy(self, logits: Tensor) -> float:
        """Share of correctly classified texts, from logits [texts] of all texts of the array."""
        return float(((logits[self.rows] > 0) == (self.labels > 0)).double().mean())


@dataclass(frozen=True)
class Probes:
    """Linear probes: weight [probes, d_model], bias [probes], float32."""

    weight: Tensor
    bias: Tensor

    def logits(self, x: Tensor) -> Tensor:
        """Logits [texts, probes] of activations [texts, d_model]."""
        return x @ self.weight.T + self.bias


def seed_of(*parts: object) -> int:
    """A seed that depends only on the parts, independent of other draws."""
    return Random("/".join(map(str, parts))).getrandbits(62)


def train_probes(
    x: Tensor,
    train: Sequence[ProbeQuestion],
    test_x: Tensor,
    test: Sequence[ProbeQuestion],
    settings: ProbeSettings,
    seeds: Sequence[int],
    done: Callable[[int], None] = unseen,
) -> Probes:
    """One probe per question, trained on x [texts, d_model], from the epoch with the best test accuracy.

    Probe i equals the one that sae-bench's `train_probe_gpu` trains on the same texts in the same order after
    `torch.manual_seed(seeds[i])`. `done` receives the number of epochs so far.
    """
    import torch

    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for number, question in enumerate(train):
        by_size[len(question.rows)].append(number)
    weight, bias = torch.zeros(len(train), x.shape[1]), torch.zeros(len(train))
    for group, members in enumerate(by_size.values()):

        def epochs(number: int) -> None:
            done((group * settings.probe_epochs + number) // len(by_size))  # noqa: B023

        together = _Together(x, [train[i] for i in members], settings, [seeds[i] for i in members])
        best = _best_epochs(together, test_x, [test[i] for i in members], settings, epochs)
        weight[members], bias[members] = best.weight, best.bias
    return Probes(weight, bias)


class _Together:
    """Probes that are trained simultaneously."""

    def __init__(
        self, x: Tensor, questions: Sequence[ProbeQuestion], settings: ProbeSettings, seeds: Sequence[int]
    ) -> None:
        import torch

        self._x, self._settings = x, settings
        self._rows = torch.stack([question.rows for question in questions])
        self._labels = torch.stack([question.labels for question in questions])
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        starts = [_initial(x.shape[1], generator) for generator in self._generators]
        self.weight = torch.stack([weight for weight, _ in starts])
        self.bias = torch.stack([bias for _, bias in starts])
        self._optimizer = torch.optim.AdamW([self.weight, self.bias], lr=settings.probe_lr)

    def epoch(self) -> None:
        """Train one epoch over all texts, in a separate order for each probe."""
        import torch

        texts, size = self._rows.shape[1], self._settings.probe_batch_size
        order = torch.stack([torch.randperm(texts, generator=generator) for generator in self._generators])
        rows, labels = self._rows.gather(1, order), self._labels.gather(1, order)
        for start in range(0, texts, size):
            self._step(self._x[rows[:, start : start + size]], labels[:, start : start + size])

    def _step(self, x: Tensor, labels: Tensor) -> None:
        """Take one AdamW step on x [probes, batch, d_model], with the explicit gradient of the loss."""
        import torch

        logits = torch.einsum("pbd,pd->pb", x, self.weight) + self.bias[:, None]
        error = (logits.sigmoid() - labels) / labels.shape[1]
        self.weight.grad = torch.einsum("pb,pbd->pd", error, x).add_(
            self.weight.sign(), alpha=self._settings.probe_l1
        )
        self.bias.grad = error.sum(1)
        self._optimizer.step()


def _initial(d_model: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight [d_model] and bias [] as torch.nn.Linear(d_model, 1) draws them."""
    import torch

    bound = d_model**-0.5
    weight = torch.empty(1, d_model).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(1).uniform_(-bound, bound, generator=generator)
    return weight[0], bias[0]


def _best_epochs(
    probes: _Together,
    test_x: Tensor,
    test: Sequence[ProbeQuestion],
    settings: ProbeSettings,
    done: Callable[[int], None],
) -> Probes:
    import torch

    best = Probes(probes.weight.clone(), probes.bias.clone())
    # The first epoch always counts as better, even with accuracy 0.
    accuracy = torch.full((len(test),), -1.0, dtype=torch.float64)
    waited = torch.zeros(len(test), dtype=torch.int64)
    for epoch in range(settings.probe_epochs):
        probes.epoch()
        done(epoch + 1)
        logits = Probes(probes.weight, probes.bias).logits(test_x)
        now = torch.tensor([q.accuracy(logits[:, i]) for i, q in enumerate(test)], dtype=torch.float64)
        better = (now > accuracy) & (waited < settings.probe_patience)
        best.weight[better], best.bias[better] = probes.weight[better], probes.bias[better]
        accuracy = torch.where(better, now, accuracy)
        waited = torch.where(better, 0, waited + 1)
        if bool((waited >= settings.probe_patience).all()):
            break
    return best
