"""Large buffers that all training steps of a thread share.

A fresh tensor of 64 MiB costs more in page faults than in arithmetic, and SAEs that train in lockstep never
need their buffers at the same time. A buffer's content is valid until the next step.
"""

import threading

import torch
from torch import Tensor

_local = threading.local()


def scratch(name: str, rows: int, columns: int, like: Tensor) -> Tensor:
    """An uninitialised tensor [rows, columns] with `like`'s dtype and device; each name reuses its memory."""
    kept: dict[tuple[str, torch.dtype, torch.device], Tensor] = _local.__dict__.setdefault("kept", {})
    key = (name, like.dtype, like.device)
    if key not in kept or kept[key].numel() < rows * columns:
        kept.pop(key, None)
        kept[key] = torch.empty(rows * columns, dtype=like.dtype, device=like.device)
    return kept[key][: rows * columns].view(rows, columns)


def space(name: str, like: Tensor) -> Tensor:
    """An uninitialised tensor like another one; matrices reuse the memory of their name."""
    return torch.empty_like(like) if like.ndim < 2 else scratch(name, like.shape[0], like.shape[1], like)
