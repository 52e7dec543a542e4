"""Shards of the activation cache: the activations of some rows at one site, in one file with a checksum."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from abench.storage.files import hidden_name
from abench.storage.sealed import Damaged


def write_shard(file: Path, activations: Tensor, key: str) -> None:
    """Write activations of any shape and type under a key, atomically; raises OSError.

    The file is not flushed to the disk: after a power failure, its checksum tells whether it is whole.
    """
    own = activations.detach().cpu().contiguous()
    content = save({"activations": own, "sha256": _digest(own, key)})
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = hidden_name(file)
    try:
        draft.write_bytes(content)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def read_shard(file: Path, key: str) -> Tensor:
    """The activations that were written under this key, on the CPU.

    Raises FileNotFoundError and other OSErrors, and Damaged if they are not what was written.
    """
    # Not mapped into memory: another process may remove the file, or its disk may go, while it is read.
    content = file.read_bytes()
    try:
        tensors = load(content)
        activations: Tensor = tensors["activations"]
        digest: Tensor = tensors["sha256"]
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise Damaged(f"it is not a shard: {error}" if content else "it is empty") from error
    if not torch.equal(digest, _digest(activations, key)):
        raise Damaged("its checksum does not match its content")
    return activations


def _digest(activations: Tensor, key: str) -> Tensor:
    """sha256 of the key, the type, the shape and the bytes of activations, [32] (uint8)."""
    found = hashlib.sha256(f"{key} {activations.dtype} {list(activations.shape)}\n".encode())
    found.update(activations.reshape(-1).view(torch.uint8).numpy().data)
    return torch.frombuffer(bytearray(found.digest()), dtype=torch.uint8)
