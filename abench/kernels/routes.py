"""Which implementation of a step is used on which kind of device; benchmarks/cuda_step.py compares them."""

import warnings
from functools import cache
from importlib.util import find_spec

import torch

from abench.kernels.sparse_codes import SparseCodes


def has_derived_steps(device: torch.device) -> bool:
    """Whether torch has the sparse products on a device; on Apple's GPUs, for example, it does not."""
    return device.type in ("cpu", "cuda")


def codes_class(device: torch.device) -> type[SparseCodes]:
    """The class of sparse codes to use on a device."""
    if device.type == "cuda" and find_spec("triton") is not None:
        return _triton_codes()
    return SparseCodes


@cache
def _triton_codes() -> type[SparseCodes]:
    """The codes that sum with a Triton kernel, or torch's own sparse products if Triton cannot build one."""
    from abench.kernels.triton_codes import TritonCodes, sum_rows

    one = torch.ones(1, 1, device="cuda")
    index = torch.tensor([0, 1], device="cuda")
    try:
        sum_rows(index, index[:1], one[0], one, torch.empty_like(one), at_once=1)
    except Exception as error:
        # Training can continue despite any cause, such as a machine without a C compiler.
        warnings.warn(
            f"Triton cannot build a kernel here ({error}); using torch's own sparse products, which take "
            "up to a third longer and are not bitwise reproducible",
            stacklevel=2,
        )
        return SparseCodes
    return TritonCodes
