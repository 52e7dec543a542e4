"""Checkpoints of an SAE that is being trained: the full training state and the position in the data.

A checkpoint is a bundle of the tensors and a sealed state file with their checksum. The previous checkpoint
is kept next to it, so damage costs only the steps between the two.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from abench.data.activations import InputStatistics
from abench.data.token_rows import Position
from abench.storage.bundle import Bundle
from abench.storage.claims import Lease
from abench.storage.faults import writing
from abench.storage.sealed import Damaged, Verified, manifest_of, read_sealed, write_sealed
from abench.training.checkpoint_files import STATE, TENSORS, before
from abench.training.trainer import CurvePoint, SAETrainer


@dataclass(frozen=True)
class StreamState:
    """Where to restart the activation stream: at the beginning of a block."""

    position: Position
    """The position in the texts at which the block begins."""
    statistics: InputStatistics


@dataclass(frozen=True)
class _Checkpoint:
    """The content of a checkpoint, which is read completely before any of it is used."""

    tensors: dict[str, torch.Tensor]
    step: int
    seconds: float
    curve: list[CurvePoint]
    controller: dict[str, float | None] | None
    stream: StreamState


def save_checkpoint(
    trainer: SAETrainer, stream: StreamState, place: Bundle, *, lease: Lease | None = None
) -> None:
    """Write a checkpoint of the trainer to a place atomically; the existing one becomes the previous one.

    There are never more than two. With a lease, files are only replaced while it is held. Raises LeaseLost
    and StorageError.
    """
    if place.exists():
        before(place).remove(lease)
    draft = place.draft(lease)
    try:
        with writing(place):
            _write(trainer, stream, draft)
        place.publish(draft, lease, previous=before(place))
    finally:
        rmtree(draft, ignore_errors=True)


def _write(trainer: SAETrainer, stream: StreamState, folder: Path) -> None:
    save_file(_tensors(trainer), folder / TENSORS)
    state = {
        "step": trainer.step,
        "seconds": trainer.counters.seconds,
        "curve": [asdict(point) for point in trainer.curve],
        "controller": trainer.controller.state_dict() if trainer.controller else None,
        "stream": {"position": list(stream.position), "statistics": asdict(stream.statistics)},
        "files": manifest_of(folder),
    }
    write_sealed(folder / STATE, state)


def load_checkpoint(
    trainer: SAETrainer, checkpoint: Bundle, say: Callable[[str], None], *, lease: Lease | None = None
) -> StreamState | None:
    """Restore the trainer from the newest intact checkpoint, and return the state of its data stream.

    None, with the trainer unchanged, if there is none. Damaged checkpoints are reported to `say` and removed.
    Raises StorageError if one cannot be removed and, with a lease, LeaseLost.
    """
    for place in (checkpoint, before(checkpoint)):
        try:
            with place.local() as folder:
                found = _read(folder, trainer)
        except FileNotFoundError:
            continue
        except Damaged as error:
            say(f"the checkpoint {place} is damaged ({error}): training resumes from an earlier state")
            place.remove(lease)
            continue
        _restore(trainer, found)
        return found.stream
    return None


def delete_checkpoint(checkpoint: Bundle, lease: Lease | None) -> None:
    """Remove a checkpoint and its predecessor. Raises LeaseLost and StorageError."""
    for place in (checkpoint, before(checkpoint)):
        place.remove(lease)


def _read(folder: Path, trainer: SAETrainer) -> _Checkpoint:
    """The content of a checkpoint; raises Damaged if the trainer cannot resume from it."""
    try:
        state = read_sealed(folder / STATE)
        Verified().check(folder / TENSORS, state["files"][TENSORS])
        tensors = load_file(folder / TENSORS, device=trainer.shape.device)
        found = _Checkpoint(
            tensors=tensors,
            step=state["step"],
            seconds=state["seconds"],
            curve=[CurvePoint(**point) for point in state["curve"]],
            controller=state["controller"],
            stream=StreamState(
                Position(*state["stream"]["position"]), InputStatistics(**state["stream"]["statistics"])
            ),
        )
    except FileNotFoundError as error:
        raise Damaged(f"{STATE} is missing") from error
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise Damaged(f"it cannot be restored: {error!r}") from error
    if not _fits(found, trainer):
        raise Damaged("its tensors are not those of this SAE")
    return found


def _fits(found: _Checkpoint, trainer: SAETrainer) -> bool:
    """Whether the tensors and the controller's state are those that this trainer expects."""
    shapes = {name: value.shape for name, value in found.tensors.items()}
    own = {name: value.shape for name, value in _tensors(trainer).items() if not name.startswith("adam.")}
    parameters = [p.shape for group in trainer.optimiser.param_groups for p in group["params"]]
    # A parameter that never had a gradient has no moments.
    moments = {
        f"adam.{index}.{name}": torch.Size() if name == "step" else shape
        for index, shape in enumerate(parameters)
        for name in ("step", "exp_avg", "exp_avg_sq")
    }
    controller = trainer.controller.state_dict() if trainer.controller else None
    same_controller = (controller is None) == (found.controller is None)
    same_controller &= (controller or {}).keys() == (found.controller or {}).keys()
    return same_controller and own.items() <= shapes.items() <= (own | moments).items()


def _restore(trainer: SAETrainer, found: _Checkpoint) -> None:
    _restore_tensors(trainer, found.tensors)
    trainer.counters.step = found.step
    trainer.counters.seconds = found.seconds
    trainer.counters.curve = found.curve
    if trainer.controller and found.controller:
        trainer.controller.load_state_dict(found.controller)


def _tensors(trainer: SAETrainer) -> dict[str, torch.Tensor]:
    tensors = {f"sae.{name}": value.detach().contiguous() for name, value in trainer.sae.state_dict().items()}
    optimiser: dict[int, dict[str, Any]] = trainer.optimiser.state_dict()["state"]
    for index, moments in optimiser.items():
        tensors |= {f"adam.{index}.{name}": value.contiguous() for name, value in moments.items()}
    return tensors | {"last_fired": trainer.last_fired}


def _restore_tensors(trainer: SAETrainer, tensors: dict[str, torch.Tensor]) -> None:
    # load_state_dict of an SAE may transform weights for its release format; this is a plain copy.
    torch.nn.Module.load_state_dict(
        trainer.sae, {name.removeprefix("sae."): t for name, t in tensors.items() if name.startswith("sae.")}
    )
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = tensor
    trainer.optimiser.load_state_dict({**trainer.optimiser.state_dict(), "state": moments})
    trainer.last_fired = tensors["last_fired"]
