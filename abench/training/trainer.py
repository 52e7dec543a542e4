"""Training SAEs in lockstep: every SAE of a group learns from the same batches of activations.

`SAETrainer` is one SAE with its optimiser and counters. Its numbers depend only on its seed and the batches,
never on the other SAEs of the group.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from abench.config import TrainingSpec
from abench.errors import UserError
from abench.training.steps import StepResult, make_step
from abench.variants import L0Controller, SAEShape, Variant

LOG_POINTS = 200
"""Approximate number of rows of a training curve."""


class Diverged(Exception):  # noqa: N818 - a state of the SAE, reported as its result
    """The training of one SAE has diverged irrecoverably; the message states the step and the symptom."""


@dataclass(frozen=True)
class CurvePoint:
    """One row of train.csv."""

    step: int
    tokens: int
    mse: float
    """Mean over tokens of ||x − x_hat||², in the normalised input space of training."""
    l0: float
    """Mean number of non-zero latents per token."""
    dead: int
    """Number of latents that have not fired for `dead_after_tokens` tokens."""
    seconds: float
    """Seconds spent in training steps of this SAE so far."""


@dataclass
class _Counters:
    step: int = 0
    seconds: float = 0.0
    curve: list[CurvePoint] = field(default_factory=list)


class SAETrainer:
    """One SAE that is being trained."""

    def __init__(
        self, variant: Variant, shape: SAEShape, spec: TrainingSpec, *, seed: int, label: str = ""
    ) -> None:
        self.variant, self.shape, self.spec, self.seed = variant, shape, spec, seed
        self.label = label or f"{variant.name}_k{shape.k}_s{seed}"
        self.sae = variant.build(shape, seed)
        parameters = list(self.sae.parameters())
        fused = {p.device.type for p in parameters} <= {"cpu", "cuda"}
        self.optimiser = torch.optim.Adam(parameters, lr=spec.learning_rate, betas=spec.betas, fused=fused)
        self.descend = make_step(self.sae, precision=spec.precision)
        self.controller = L0Controller.for_variant(variant, shape)
        self.last_fired = torch.zeros(shape.width, dtype=torch.int64, device=shape.device)
        """Number of tokens seen when each latent last fired, [width]."""
        self.counters = _Counters()

    @property
    def step(self) -> int:
        return self.counters.step

    @property
    def tokens(self) -> int:
        return self.step * self.spec.batch_size

    @property
    def curve(self) -> Sequence[CurvePoint]:
        return self.counters.curve

    def train_on(self, batch: Tensor) -> None:
        """Take one step on normalised activations [batch, d_in]. Raises Diverged."""
        started = time.perf_counter()
        for group in self.optimiser.param_groups:
            group["lr"] = self.spec.learning_rate * learning_rate_factor(self.step, self.spec)
        coefficients = self.controller.coefficients() if self.controller else {}
        result = self.descend(batch, coefficients, self.dead(), step=self.step)
        if not math.isfinite(result.loss):
            raise Diverged(f"the training loss became {result.loss} at step {self.step + 1}")
        self._update_weights()
        self._count(result, batch)
        self.counters.seconds += time.perf_counter() - started

    def dead(self) -> Tensor:
        """Mask [width] of dead latents: those that have not fired for `dead_after_tokens` tokens."""
        return self.tokens - self.last_fired > self.spec.dead_after_tokens

    def finish(self, calibration: Tensor) -> None:
        """Calibrate inference parameters, such as a threshold, on normalised activations [tokens, d_in]."""
        self.variant.calibrate(self.sae, calibration, self.shape.k)

    def _update_weights(self) -> None:
        if self.spec.unit_decoder:
            _remove_parallel_gradient(self.sae.W_dec)
        if self.spec.gradient_clip is not None:
            _clip_gradients(list(self.sae.parameters()), self.spec.gradient_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.spec.unit_decoder:
            with torch.no_grad():
                self.sae.W_dec /= self.sae.W_dec.norm(dim=-1, keepdim=True)

    def _count(self, result: StepResult, batch: Tensor) -> None:
        self.counters.step += 1
        self.last_fired[result.fired] = self.tokens
        if self.controller:
            self.controller.update(result.l0)
        if self.step > 100:
            self._check(result.mse, batch)
        every = max(1, self.spec.steps // LOG_POINTS)
        if self.step % every == 0 or self.step in (1, self.spec.steps):
            dead = int(self.dead().sum())
            point = CurvePoint(
                self.step, self.tokens, result.mse, result.l0, dead, round(self.counters.seconds, 3)
            )
            self.counters.curve.append(point)

    def _check(self, mse: float, batch: Tensor) -> None:
        power = float(batch.square().sum(-1).mean())
        # A batch of zeros has no power to compare the error with.
        if power and mse > 100 * power:
            raise Diverged(
                f"training diverged: at step {self.step} the squared error is {mse / power:.0f} times "
                "the squared norm of the inputs"
            )


def learning_rate_factor(step: int, spec: TrainingSpec) -> float:
    """The learning rate's factor: linear warm-up from 0, 1, linear decay to 0; `step` counts from 0."""
    warmup, decay = spec.warmup_fraction * spec.steps, spec.decay_fraction * spec.steps
    rising = (step + 1) / warmup if step < warmup else 1.0
    falling = (spec.steps - step) / decay if spec.steps - step < decay else 1.0
    return min(1.0, rising, falling)


def _clip_gradients(parameters: Sequence[Tensor], most: float) -> None:
    """torch's clip_grad_norm_, without the multiplication by 1 if nothing is clipped."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not norm + 1e-6 <= most:
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)


def _remove_parallel_gradient(weight: Tensor) -> None:
    """Remove the part of the gradient along unit rows [rows, d], which renormalisation would undo."""
    if weight.grad is not None:
        along = (weight.grad * weight.detach()).sum(-1, keepdim=True)
        weight.grad -= along * weight.detach()


def run_lockstep(
    trainers: Sequence[SAETrainer],
    batches: Iterator[Tensor],
    *,
    start: int,
    on_step: Callable[[int], None],
    on_diverged: Callable[[SAETrainer, Diverged], None],
    is_wanted: Callable[[SAETrainer], bool] = lambda _: True,
) -> None:
    """Train all SAEs for the number of steps in their spec; `batches` begins with batch number `start`.

    An SAE restored from a later checkpoint waits until the stream reaches its step. An SAE that diverges is
    passed to `on_diverged` and dropped; the others continue. After each step, `on_step` receives the number
    of completed steps, and SAEs that are no longer `is_wanted` are dropped. Raises UserError if the batches
    end too early.
    """
    active = [t for t in trainers if t.step < t.spec.steps]
    for index in range(start, max((t.spec.steps for t in active), default=0)):
        batch = next(batches, None)
        if batch is None:
            raise UserError(
                f"the activations ended after {index} batches; training needs {active[0].spec.steps}"
            )
        for trainer in [t for t in active if t.step == index]:
            try:
                trainer.train_on(batch)
            except Diverged as error:
                active.remove(trainer)
                on_diverged(trainer, error)
        on_step(index + 1)
        active = [trainer for trainer in active if is_wanted(trainer)]
        if not active:
            return
