"""Training as a library: SAEs on any activations, without a store, a model or a file."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abench.activations import normalised
from abench.config import TrainingSpec, check
from abench.errors import UserError
from abench.training import CurvePoint, SAETrainer, run_lockstep
from abench.variants import SAEShape, Variant, get_variant, load_sae, save_sae


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
    spec = _spec(steps, batch_size, training)
    stream = rebatch(activations, batch_size)
    first = next(stream, None)
    if first is None:
        raise UserError(f"the activations hold fewer than one batch ({batch_size})")
    chosen = [get_variant(name, (options or {}).get(name, {})) for name in variants]
    shapes = [SAEShape(first.shape[1], width, each, device) for each in k]
    trainers = [_trainer(variant, shape, spec, seed) for variant in chosen for shape in shapes]
    inputs = _Inputs(chain([first], stream), spec, _scale(first, spec), device)
    failures: dict[SAETrainer, str] = {}
    run_lockstep(
        trainers,
        iter(inputs),
        start=0,
        on_step=lambda _: None,
        on_diverged=lambda trainer, error: failures.update({trainer: str(error)}),
    )
    return [_result(trainer, inputs, failures.get(trainer)) for trainer in trainers]


class _Inputs:
    """Normalised batches, the last of which are kept to calibrate thresholds on."""

    def __init__(self, batches: Iterable[Tensor], spec: TrainingSpec, scale: float, device: str) -> None:
        self._batches, self._spec, self.scale, self._device = batches, spec, scale, device
        self._recent: list[Tensor] = []

    def __iter__(self) -> Iterator[Tensor]:
        keep = max(1, self._spec.calibration_tokens // self._spec.batch_size)
        for batch in self._batches:
            self._recent.append(normalised(batch.to(self._device), self._spec, self.scale))
            del self._recent[:-keep]
            yield self._recent[-1]

    def recent(self) -> Tensor:
        """The inputs seen last, [tokens, d_in]."""
        return torch.cat(self._recent)


def _spec(steps: int, batch_size: int, more: Mapping[str, Any]) -> TrainingSpec:
    sizes = {"tokens": steps * batch_size, "batch_size": batch_size}
    defaults = {"buffer_tokens": batch_size, "calibration_tokens": 8 * batch_size}
    return check(TrainingSpec, {**sizes, **defaults, **more}, where="train()")


def _trainer(variant: Variant, shape: SAEShape, spec: TrainingSpec, seed: int) -> SAETrainer:
    if not 0 < shape.k < shape.width:
        raise UserError(
            f"k = {shape.k} must be at least 1 and smaller than the width ({shape.width} latents)"
        )
    return SAETrainer(variant, shape, spec, seed=seed)


def _scale(batch: Tensor, spec: TrainingSpec) -> float:
    norm = float(batch.norm(dim=-1).mean())
    if norm == 0:
        raise UserError("the first batch of activations is zero everywhere")
    return float(batch.shape[1] ** 0.5 / norm) if spec.normalisation == "scale" else 1.0


def _result(trainer: SAETrainer, inputs: _Inputs, failure: str | None) -> TrainedSAE:
    sae = None
    if failure is None:
        trainer.finish(inputs.recent())
        # Saving folds scale and norms into the weights; what is handed out is what a file would hold.
        with tempfile.TemporaryDirectory() as folder:
            standardised = trainer.spec.normalisation == "layer_norm"
            save_sae(trainer.sae, Path(folder), scale=inputs.scale, metadata={}, layer_norm=standardised)
            sae = load_sae(Path(folder), device=trainer.shape.device)
    return TrainedSAE(trainer.variant.name, trainer.shape.k, trainer.seed, sae, list(trainer.curve), failure)


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
