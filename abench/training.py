"""Training SAEs in lockstep: every SAE of a group learns from the same batches of activations.

`SAETrainer` is one SAE with its optimiser and counters; `train` is the library entry point for any iterator
of activations. Each SAE's numbers depend on its own seed and the batches alone, never on its neighbours.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abench.activations import normalised
from abench.config import TrainingSpec
from abench.errors import UserError
from abench.variants import L0Controller, SAEShape, Variant, get_variant, load_sae, save_sae

from sae_lens.saes.sae import TrainStepInput  # isort: skip - abench.variants makes sae_lens importable

LOG_POINTS = 200
"""About how many rows a training curve has."""


class Diverged(Exception):  # noqa: N818 - a state of the SAE, reported as its result
    """The training of one SAE went wrong for good; the message says where and how."""


@dataclass(frozen=True)
class CurvePoint:
    """One row of train.csv."""

    step: int
    tokens: int
    mse: float
    """Mean over tokens of ||x − x_hat||², on the inputs as normalised for training."""
    l0: float
    """Mean number of latents different from zero."""
    dead: int
    """Latents that have not fired for `dead_after_tokens`."""
    seconds: float
    """Seconds of training steps of this SAE so far."""


@dataclass
class _Counters:
    step: int = 0
    seconds: float = 0.0
    curve: list[CurvePoint] = field(default_factory=list)


class SAETrainer:
    """One SAE in training."""

    def __init__(
        self, variant: Variant, shape: SAEShape, spec: TrainingSpec, *, seed: int, label: str = ""
    ) -> None:
        self.variant, self.shape, self.spec = variant, shape, spec
        self.label = label or f"{variant.name}_k{shape.k}_s{seed}"
        self.sae = variant.build(shape, seed)
        parameters = list(self.sae.parameters())
        fused = {p.device.type for p in parameters} <= {"cpu", "cuda"}
        self.optimiser = torch.optim.Adam(parameters, lr=spec.learning_rate, betas=spec.betas, fused=fused)
        self.controller = L0Controller.for_variant(variant, shape)
        self.last_fired = torch.zeros(shape.width, dtype=torch.int64, device=shape.device)
        """Tokens seen when a latent last fired."""
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
        """One step on normalised activations [batch, d_in]. Raises Diverged when the loss is lost."""
        started = time.perf_counter()
        for group in self.optimiser.param_groups:
            group["lr"] = self.spec.learning_rate * learning_rate_factor(self.step, self.spec)
        output = self.sae.training_forward_pass(
            TrainStepInput(
                sae_in=batch,
                coefficients=self.controller.coefficients() if self.controller else {},
                dead_neuron_mask=self.dead(),
                n_training_steps=self.step,
                is_logging_step=False,
            )
        )
        if not math.isfinite(loss := float(output.loss.detach())):
            raise Diverged(f"the training loss became {loss} at step {self.step + 1}")
        output.loss.backward()
        self._descend()
        self._count(output.feature_acts.detach(), float(output.losses["mse_loss"].detach()), batch)
        self.counters.seconds += time.perf_counter() - started

    def dead(self) -> Tensor:
        """Mask [width] of the latents that have not fired for `dead_after_tokens` tokens."""
        return self.tokens - self.last_fired > self.spec.dead_after_tokens

    def finish(self, calibration: Tensor) -> None:
        """Set what inference needs, from normalised activations [tokens, d_in]."""
        self.variant.calibrate(self.sae, calibration, self.shape.k)

    def _descend(self) -> None:
        if self.spec.unit_decoder:
            _remove_parallel_gradient(self.sae.W_dec)
        if self.spec.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.sae.parameters(), self.spec.gradient_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.spec.unit_decoder:
            with torch.no_grad():
                self.sae.W_dec /= self.sae.W_dec.norm(dim=-1, keepdim=True)

    def _count(self, codes: Tensor, mse: float, batch: Tensor) -> None:
        fired = codes != 0
        l0 = float(fired.sum()) / len(codes)
        self.counters.step += 1
        self.last_fired[fired.any(0)] = self.tokens
        if self.controller:
            self.controller.update(l0)
        self._check(mse, batch)
        every = max(1, self.spec.steps // LOG_POINTS)
        if self.step % every == 0 or self.step in (1, self.spec.steps):
            dead = int(self.dead().sum())
            point = CurvePoint(self.step, self.tokens, mse, l0, dead, round(self.counters.seconds, 3))
            self.counters.curve.append(point)

    def _check(self, mse: float, batch: Tensor) -> None:
        power = float(batch.square().sum(-1).mean())
        if self.step > 100 and mse > 100 * power:
            raise Diverged(
                f"training diverged: at step {self.step} the squared error is {mse / power:.0f} times "
                "the squared norm of the inputs"
            )


def learning_rate_factor(step: int, spec: TrainingSpec) -> float:
    """Linear warm-up from 0, then 1, then linear decay to 0; `step` counts from 0."""
    warmup, decay = spec.warmup_fraction * spec.steps, spec.decay_fraction * spec.steps
    rising = (step + 1) / warmup if step < warmup else 1.0
    falling = (spec.steps - step) / decay if spec.steps - step < decay else 1.0
    return min(1.0, rising, falling)


def _remove_parallel_gradient(weight: Tensor) -> None:
    """Take from the gradient of unit rows [rows, d] the part along the rows, which renormalising undoes."""
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
) -> None:
    """Train all SAEs to the end of their spec; `batches` begins with batch number `start`.

    An SAE that is further on (restored from a later checkpoint) waits until the stream has come to it. One
    that diverges is handed to `on_diverged` and left behind; the others go on. `on_step` is told the number
    of steps done after each.
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
        if not active:
            return


@dataclass
class TrainedSAE:
    """What `train` gives for one SAE."""

    variant: str
    k: int
    seed: int
    sae: Any
    """A sae_lens.SAE, its scaling and decoder norms folded in; None if it diverged."""
    curve: list[CurvePoint]
    failure: str | None = None


def train(
    activations: Iterable[Tensor],
    *,
    variants: Sequence[str],
    k: Sequence[int],
    width: int,
    steps: int,
    seed: int = 0,
    batch_size: int = 2048,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "cpu",
    **training: Any,
) -> list[TrainedSAE]:
    """Train one SAE for each variant and k on any iterable of activations, all in lockstep.

    `activations` yields tensors [tokens, d_in] of any length; they are cut into batches in the order they
    come, so shuffle them beforehand. The first `batch_size` of them set the scale of the inputs. `options`
    are the variants' own, further keywords those of TrainingSpec. Nothing is written to disk.

    Raises UserError for unknown names, wrong shapes, values that are not finite, or too few activations.
    """
    import tempfile

    spec = TrainingSpec(
        tokens=steps * batch_size,
        batch_size=batch_size,
        **{"buffer_tokens": batch_size, "calibration_tokens": 8 * batch_size, **training},
    )
    stream = rebatch(activations, batch_size)
    first = next(stream, None)
    if first is None:
        raise UserError(f"the activations hold fewer than one batch ({batch_size})")
    d_in = first.shape[1]
    scale = d_in**0.5 / float(first.norm(dim=-1).mean()) if spec.normalisation == "scale" else 1.0
    chosen = [get_variant(name, (options or {}).get(name, {})) for name in variants]
    trainers = [
        SAETrainer(v, SAEShape(d_in, width, each, device), spec, seed=seed) for v in chosen for each in k
    ]
    failures: dict[int, str] = {}
    keep = max(1, spec.calibration_tokens // batch_size)
    recent: list[Tensor] = []

    def scaled() -> Iterator[Tensor]:
        for batch in chain([first], stream):
            recent.append(normalised(batch.to(device), spec, scale))
            del recent[:-keep]
            yield recent[-1]

    run_lockstep(
        trainers,
        scaled(),
        start=0,
        on_step=lambda _: None,
        on_diverged=lambda trainer, error: failures.update({id(trainer): str(error)}),
    )
    results = []
    for trainer in trainers:
        failure = failures.get(id(trainer))
        sae = None
        if failure is None:
            trainer.finish(torch.cat(recent))
            with tempfile.TemporaryDirectory() as folder:
                standardised = spec.normalisation == "layer_norm"
                save_sae(trainer.sae, Path(folder), scale=scale, metadata={}, layer_norm=standardised)
                sae = load_sae(Path(folder), device=device)
        results.append(
            TrainedSAE(trainer.variant.name, trainer.shape.k, seed, sae, list(trainer.curve), failure)
        )
    return results


def rebatch(activations: Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Batches [batch_size, d_in] in float32 from tensors [tokens, d_in] of any length, in order.

    Raises UserError, naming the tensor, for a wrong rank, width or type, or for values that are not finite.
    """
    waiting: list[Tensor] = []
    width: int | None = None
    for number, chunk in enumerate(activations):
        width = _checked_width(chunk, number, width)
        waiting.append(chunk.float())
        if sum(map(len, waiting)) >= batch_size:
            joined = torch.cat(waiting)
            whole = len(joined) - len(joined) % batch_size
            yield from (joined[i : i + batch_size] for i in range(0, whole, batch_size))
            waiting = [joined[whole:]]


def _checked_width(chunk: Tensor, number: int, width: int | None) -> int:
    where = f"activations[{number}]"
    if not isinstance(chunk, Tensor) or chunk.ndim != 2 or not chunk.is_floating_point():
        raise UserError(f"{where} must be a floating-point tensor [tokens, d_in]")
    if width is not None and chunk.shape[1] != width:
        raise UserError(f"{where} has width {chunk.shape[1]}, the ones before it {width}")
    if not bool(chunk.isfinite().all()):
        raise UserError(f"{where} holds values that are not finite")
    return chunk.shape[1]
