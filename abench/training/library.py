"""Training as a library function: SAEs on any activations, without a results folder, a model or files."""

import inspect
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abench.config import TrainingSpec, check
from abench.data.activations import all_the_same, normalised, statistics_of
from abench.errors import UserError, did_you_mean, short
from abench.training.trainer import CurvePoint, SAETrainer, run_lockstep
from abench.variants import SAEShape, get_variant, load_sae, save_sae

_NOT_FOR_TRAIN = {
    "tokens": "it is steps × batch_size: set those",
    "buffer_tokens": "train() does not shuffle activations: shuffle them beforehand",
}
"""Keywords of TrainingSpec that do not apply here, with the reason."""


@dataclass
class TrainedSAE:
    """The result of `train` for one SAE."""

    variant: str
    k: int
    seed: int
    sae: Any
    """A sae_lens.SAE with input scale and decoder norms folded into its weights; None if training failed."""
    curve: list[CurvePoint]
    failure: str | None = None

    def __repr__(self) -> str:
        end = self.failure or (f"MSE {self.curve[-1].mse:.4g}" if self.curve else "not trained")
        return f"TrainedSAE({self.variant}, k {self.k}, seed {self.seed}: {end})"


def train(
    activations: Tensor | Iterable[Tensor],
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
    """Train one SAE per variant and k on activations from any source, all in lockstep.

    `activations` is a tensor [tokens, d_in], or any iterable of such tensors of any length. They are divided
    into batches in the given order, so shuffle them beforehand. The first `batch_size` activations determine
    the scale of the inputs and, if `outlier_norm` is given, the norm above which activations are dropped.
    `options` maps a variant's name to its options. Further keywords are those of TrainingSpec, except
    `tokens` and `buffer_tokens`, with two different defaults: `outlier_norm` is None and
    `calibration_tokens` is 8 batches. Nothing is written to disk.

    Raises UserError for unknown names, numbers out of range, wrong shapes, too few activations, and
    activations that are not finite or from which nothing can be learnt. An SAE that diverges, or ends with
    weights or codes that are not finite, does not raise: its result has a `failure`.
    """
    spec = _spec(steps, batch_size, training)
    _check_sizes(variants, k, width, seed, options or {})
    chosen = [get_variant(name, (options or {}).get(name, {})) for name in variants]
    _check_device(device)
    first, batches = _first_and_all(activations, batch_size)
    statistics = statistics_of(first, spec)
    if statistics.norm_limit is not None:
        batches = rebatch(_within(batches, statistics.norm_limit), batch_size)
    shapes = [SAEShape(first.shape[1], width, each, device) for each in k]
    trainers = [SAETrainer(variant, shape, spec, seed=seed) for variant in chosen for shape in shapes]
    inputs = _Inputs(batches, spec, statistics.scale, device)
    failures: dict[SAETrainer, str] = {}
    run_lockstep(
        trainers,
        iter(inputs),
        start=0,
        on_step=lambda _: None,
        on_diverged=lambda trainer, error: failures.update({trainer: str(error)}),
    )
    if inputs.all_the_same:
        raise UserError("the activations are all the same: there is nothing to learn from")
    return [_result(trainer, inputs, failures.get(trainer)) for trainer in trainers]


def _first_and_all(
    activations: Tensor | Iterable[Tensor], batch_size: int
) -> tuple[Tensor, Iterator[Tensor]]:
    """The first batch, and an iterator over all batches, the first included."""
    if isinstance(activations, Tensor):
        activations = [activations]
    if not isinstance(activations, Iterable):
        raise UserError(
            "train(): activations must be a tensor [tokens, d_in] or an iterable of such tensors, not "
            f"{type(activations).__name__}"
        )
    stream = rebatch(activations, batch_size)
    first = next(stream, None)
    if first is None:
        raise UserError(f"there are fewer activations than one batch ({batch_size})")
    return first, chain([first], stream)


def _within(batches: Iterable[Tensor], limit: float) -> Iterator[Tensor]:
    """The activations whose norm is at most `limit`."""
    return (batch[batch.norm(dim=-1) <= limit] for batch in batches)


class _Inputs:
    """Normalised batches; the most recent ones are kept for the calibration of thresholds."""

    def __init__(self, batches: Iterable[Tensor], spec: TrainingSpec, scale: float, device: str) -> None:
        self._batches, self._spec, self.scale, self._device = batches, spec, scale, device
        self._recent: list[Tensor] = []
        self.all_the_same = True

    def __iter__(self) -> Iterator[Tensor]:
        keep = max(1, self._spec.calibration_tokens // self._spec.batch_size)
        first: Tensor | None = None
        for batch in self._batches:
            first = batch[:1] if first is None else first
            self.all_the_same = self.all_the_same and all_the_same(torch.cat([first, batch]))
            self._recent.append(normalised(batch.to(self._device), self._spec, self.scale))
            del self._recent[:-keep]
            yield self._recent[-1]

    def last(self) -> Tensor:
        """The last batch, [batch_size, d_in]."""
        return self._recent[-1]

    def recent(self) -> Tensor:
        """The most recent inputs, [tokens, d_in]."""
        return torch.cat(self._recent)


def _spec(steps: int, batch_size: int, more: Mapping[str, Any]) -> TrainingSpec:
    for name, reason in _NOT_FOR_TRAIN.items():
        if name in more:
            raise UserError(f"train(): {name} cannot be set because {reason}")
    known = _keywords()
    for name in more:
        if name not in known:
            raise UserError(f"train(): unknown key {short(name)}{did_you_mean(name, known)}")
    steps, batch_size = _number("steps", steps, 1), _number("batch_size", batch_size, 1)
    sizes = {"tokens": steps * batch_size, "batch_size": batch_size, "buffer_tokens": batch_size}
    defaults = {"calibration_tokens": 8 * batch_size, "outlier_norm": None}
    return check(TrainingSpec, {**sizes, **defaults, **more}, where="train()")


def _keywords() -> set[str]:
    """The keywords that `train` accepts."""
    own = {
        each.name for each in inspect.signature(train).parameters.values() if each.kind != each.VAR_KEYWORD
    }
    return own | set(TrainingSpec.model_fields) - set(_NOT_FOR_TRAIN)


def _check_sizes(
    variants: Sequence[str],
    k: Sequence[int],
    width: int,
    seed: int,
    options: Mapping[str, Mapping[str, Any]],
) -> None:
    for name, values in (("variants", variants), ("k", k)):
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UserError(f"train(): {name} must be a list of at least one value (got {values!r:.80})")
    _number("seed", seed, 0)
    _number("width", width, 2)
    for each in k:
        if not 0 < _number("k", each, 1) < width:
            raise UserError(f"k = {each} must be at least 1 and smaller than the width ({width} latents)")
    for name in options:
        if name not in variants:
            raise UserError(f"train(): options has '{name}', which is not one of the variants")


def _number(name: str, value: int, least: int) -> int:
    """The value as a Python int; raises UserError unless it is a whole number of at least `least`."""
    whole = None if isinstance(value, bool) or not hasattr(value, "__index__") else value.__index__()
    if whole is None or whole < least:
        raise UserError(f"train(): {name} must be a whole number of at least {least} (got {value!r:.80})")
    return whole


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"train(): the device '{device}' cannot be used: {cause}") from error


def _result(trainer: SAETrainer, inputs: _Inputs, failure: str | None) -> TrainedSAE:
    sae = None
    if failure is None:
        trainer.finish(inputs.recent())
        # Saving folds scale and norms into the weights; the result is the same as from a saved file.
        with tempfile.TemporaryDirectory() as folder:
            standardised = trainer.spec.normalisation == "layer_norm"
            save_sae(trainer.sae, Path(folder), scale=inputs.scale, metadata={}, layer_norm=standardised)
            sae = load_sae(Path(folder), device=trainer.shape.device)
        failure = _not_finite(trainer, sae, inputs.last())
    done = sae if failure is None else None
    return TrainedSAE(trainer.variant.name, trainer.shape.k, trainer.seed, done, list(trainer.curve), failure)


def _not_finite(trainer: SAETrainer, sae: Any, batch: Tensor) -> str | None:
    """A sentence about what is not finite; None if weights, codes and reconstructions all are finite."""
    with torch.no_grad():
        codes = trainer.sae.encode(batch)
        found = {
            "weights": (value for value in sae.state_dict().values()),
            "codes of the last batch": [codes],
            "reconstructions of the last batch": [trainer.sae.decode(codes)],
        }
        for what, values in found.items():
            if not all(bool(value.isfinite().all()) for value in values):
                return f"training ended with {what} that are not finite"
    return None


def rebatch(activations: Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Batches [batch_size, d_in] in float32 from tensors [tokens, d_in] of any length, in order.

    Raises UserError with the index of a tensor of the wrong rank, width or type, or with values that are not
    finite.
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
        raise UserError(f"{where} has width {chunk.shape[1]}, earlier ones have {width}")
    if not bool(chunk.isfinite().all()):
        raise UserError(f"{where} has values that are not finite")
    if not bool(chunk.float().norm(dim=-1).isfinite().all()):
        raise UserError(f"{where} has vectors whose norm overflows float32; divide all by one factor")
    return chunk.shape[1]
