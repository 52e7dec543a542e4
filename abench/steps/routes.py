"""Which way a step goes on which kind of device, by what benchmarks/cuda_step.py measured."""

from importlib.util import find_spec

import torch

from abench.steps.codes import SparseCodes


def has_derived_steps(device: torch.device) -> bool:
    """Whether the sparse products exist there: on Apple's GPUs, for one, they do not."""
    return device.type in ("cpu", "cuda")


def sparse_codes(device: torch.device) -> type[SparseCodes]:
    """Sparse codes with the products that are fastest on a device."""
    if device.type == "cuda" and find_spec("triton") is not None:
        from abench.steps.triton_codes import TritonCodes

        return TritonCodes
    return SparseCodes
