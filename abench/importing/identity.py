"""The identity of an imported SAE: a hash over its tensors and its configuration."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from abench.importing.parsed import Format, Parsed
from abench.storage.keys import key_of

_WITHOUT = frozenset({"device"})
"""Entries of a configuration that do not belong to the SAE but to the machine that wrote it."""


def identity_of(format: Format, parsed: Parsed) -> str:
    """sha256 (64 hex digits) over format, configuration and tensors; independent of the files' place."""
    config = {name: value for name, value in parsed.config.items() if name not in _WITHOUT}
    tensors = {name: _described(tensor) for name, tensor in parsed.weights.items()}
    return key_of({"format": format.name, "version": format.version, "config": config, "tensors": tensors})


def _described(tensor: Tensor) -> dict[str, Any]:
    # numpy has no bfloat16; the bytes are what is hashed, so any type of that size serves.
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    digest = hashlib.sha256(plain.data).hexdigest()
    return {"dtype": str(tensor.dtype), "shape": list(tensor.shape), "sha256": digest}
