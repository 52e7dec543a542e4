"""Checkpoints of an SAE in training: everything the next step depends on, and where its data goes on."""

import json
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from abench.activations import InputStatistics, Position
from abench.lease import Lease
from abench.storage import writing
from abench.training import CurvePoint, SAETrainer

_TENSORS, _STATE = "state.safetensors", "state.json"


@dataclass(frozen=True)
class StreamState:
    """Where the activation stream has to be restarted: at the beginning of a block."""

    position: Position
    """Where the block's texts begin."""
    statistics: InputStatistics


def save_checkpoint(
    trainer: SAETrainer, stream: StreamState, folder: Path, *, lease: Lease | None = None
) -> None:
    """Write a checkpoint of the trainer to `folder`, replacing the one there only when it is whole.

    With a lease, only while that is held: raises LeaseLost and StorageError.
    """
    temporary = lease.draft_of(folder) if lease else folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with writing(folder):
            temporary.mkdir(parents=True)
            save_file(_tensors(trainer), temporary / _TENSORS)
            (temporary / _STATE).write_text(json.dumps(_state(trainer, stream)), encoding="utf-8")
            with _committing(lease):
                _swap(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _state(trainer: SAETrainer, stream: StreamState) -> dict[str, Any]:
    return {
        "step": trainer.step,
        "seconds": trainer.counters.seconds,
        "curve": [asdict(point) for point in trainer.curve],
        "controller": trainer.controller.state_dict() if trainer.controller else None,
        "stream": {"position": list(stream.position), "statistics": asdict(stream.statistics)},
    }


def _committing(lease: Lease | None) -> AbstractContextManager[None]:
    return nullcontext() if lease is None else lease.commit()


def load_checkpoint(trainer: SAETrainer, folder: Path, *, lease: Lease | None = None) -> StreamState | None:
    """Restore the trainer from the newest whole checkpoint; None, and an untouched trainer, without one."""
    with _committing(lease):
        _finish_swap(folder)
    if not (folder / _STATE).is_file():
        return None
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    _restore_tensors(trainer, load_file(folder / _TENSORS, device=trainer.shape.device))
    trainer.counters.step = state["step"]
    trainer.counters.seconds = state["seconds"]
    trainer.counters.curve = [CurvePoint(**point) for point in state["curve"]]
    if trainer.controller:
        trainer.controller.load_state_dict(state["controller"])
    stream = state["stream"]
    return StreamState(Position(*stream["position"]), InputStatistics(**stream["statistics"]))


def delete_checkpoint(folder: Path) -> None:
    """Remove a checkpoint that is no longer needed, with whatever a crash left beside it."""
    for path in (folder, folder.with_name(f".{folder.name}.tmp"), folder.with_name(f".{folder.name}.old")):
        shutil.rmtree(path, ignore_errors=True)


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


def _swap(temporary: Path, folder: Path) -> None:
    """Put `temporary` in the place of `folder`; a crash in between is mended by `_finish_swap`."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _finish_swap(folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    if not folder.exists() and old.exists():
        old.rename(folder)
