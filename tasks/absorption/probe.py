"""Probes for all 26 letters at once, each letter against the rest, as in sae-bench but on sparse inputs.

Training uses Adam with a learning rate that decays each epoch, a binary loss in which the two classes of each
letter have equal weight, and an optional L1 norm. The gradient is explicit, so the cost of sparse inputs is
proportional to their non-zero entries. Everything is in float64, because rounding would otherwise decide
the order of two similar latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._shared.passes import unseen

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_array
    from torch import Tensor

LEARNING_RATE, LAST_LEARNING_RATE = 1e-2, 1e-5
"""sae-bench's values; the learning rate decays from the first to the second by an equal factor per epoch."""


@dataclass(frozen=True)
class Probe:
    """Logits of inputs x are x @ weight + bias; a letter is predicted where its logit is above 0."""

    weight: Tensor
    """[inputs, 26], float64."""
    bias: Tensor
    """[26], float64."""

    def logits(self, x: Any) -> Tensor:
        """Logits [rows, 26] in float64 of inputs [rows, inputs], dense or sparse."""
        import torch

        return torch.from_numpy(_array(x) @ self.weight.numpy()) + self.bias


@dataclass(frozen=True)
class Training:
    """How a probe is trained; the defaults are sae-bench's for the probe on the residual stream."""

    batch_size: int = 4096
    epochs: int = 50
    l1: float = 0.0
    """Coefficient of the L1 norm of a letter's weights, averaged over letters."""
    l2: float = 1e-4
    """Adam's weight decay, which is added to the gradient."""


def train_probe(
    x: Tensor | csr_array,
    letters: Tensor,
    training: Training,
    generator: torch.Generator,
    *,
    start: Probe | None = None,
    done: Callable[[int], None] = unseen,
) -> Probe:
    """Train a probe of the letters [rows] on inputs x [rows, inputs], dense or sparse.

    Weights start at zero, so that the order and the sign of inputs do not matter; sae-bench starts from a
    random initialisation whose seed cannot be set by its options. `start` sets another initial probe, for
    comparisons. A letter without words is learnt as one that never occurs. Batches are drawn as by torch's
    DataLoader. `done` receives the number of epochs so far. Source: train_multi_probe and
    train_sparse_multi_probe of sae-bench 0.6.0.
    """
    import numpy as np
    import torch

    inputs = _array(x)
    wanted = torch.nn.functional.one_hot(letters, 26).double().numpy()
    # The weight of a positive relative to a negative: sae-bench's pos_weight.
    heavier = (len(wanted) - wanted.sum(0)) / np.maximum(wanted.sum(0), 1)
    probe = _start(inputs.shape[1]) if start is None else _copy(start)
    weight, bias = probe.weight.numpy(), probe.bias.numpy()
    optimizer = torch.optim.Adam(
        [probe.weight, probe.bias], lr=LEARNING_RATE, weight_decay=training.l2, fused=True
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(
        optimizer, (LAST_LEARNING_RATE / LEARNING_RATE) ** (1 / training.epochs)
    )
    for epoch in range(training.epochs):
        for batch in _batches(len(wanted), training.batch_size, generator):
            part, target = inputs[batch], wanted[batch]
            slope = _slope(part @ weight + bias, target, heavier)
            probe.weight.grad = torch.from_numpy(part.T @ slope + training.l1 / 26 * np.sign(weight))
            probe.bias.grad = torch.from_numpy(slope.sum(0))
            optimizer.step()
        schedule.step()
        done(epoch + 1)
    return Probe(probe.weight.detach(), probe.bias.detach())


def _slope(logits: Any, target: Any, heavier: Any) -> Any:
    """The gradient of the mean loss with respect to the logits, [rows, 26]."""
    from scipy.special import expit

    predicted = expit(logits)
    # Computes target · heavier · (predicted − 1) + (1 − target) · predicted in place.
    predicted += target * (heavier * (predicted - 1) - predicted)
    return predicted / predicted.size


def _batches(rows: int, size: int, generator: torch.Generator) -> Iterator[Any]:
    """Row indices of an epoch's batches, as drawn by a DataLoader with shuffle=True."""
    import torch

    torch.empty((), dtype=torch.int64).random_(
        generator=generator
    )  # the seed that a DataLoader draws for its workers
    seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).numpy()
    for begin in range(0, rows, size):
        yield order[begin : begin + size]


def _start(inputs: int) -> Probe:
    import torch

    return Probe(torch.zeros(inputs, 26, dtype=torch.float64), torch.zeros(26, dtype=torch.float64))


def _copy(probe: Probe) -> Probe:
    return Probe(probe.weight.double().clone().contiguous(), probe.bias.double().clone())


def _array(x: Any) -> Any:
    """Inputs as a float64 array for products in numpy and scipy."""
    import numpy as np
    from scipy.sparse import csr_array

    return x.astype(np.float64) if isinstance(x, csr_array) else x.double().numpy()
