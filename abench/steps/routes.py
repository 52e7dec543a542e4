"""Which way a step goes on which kind of device; benchmarks/cuda_step.py compares them."""

import warnings
from functools import cache
from importlib.util import find_spec

import torch

from abench.steps.codes import SparseCodes


def has_derived_steps(device: torch.device) -> bool:
    """Whether the sparse products exist there: on Apple's GPUs, for one, they do not."""
    return device.type in ("cpu", "cuda")


def codes_class(device: torch.device) -> type[SparseCodes]:
    """Sparse codes with the products to be used on a device."""
    if device.type == "cuda" and find_spec("triton") is not None:
        return _triton_codes()
    return SparseCodes


@cache
def _triton_codes() -> type[SparseCodes]:
    """The codes that sum by a Triton kernel, or torch's own where Triton cannot build one."""
    from abench.steps.triton_codes import TritonCodes, sum_rows

    one = torch.ones(1, 1, device="cuda")
    index = torch.tensor([0, 1], device="cuda")
    try:
        sum_rows(index, index[:1], one[0], one, torch.empty_like(one), at_once=1)
    except Exception as error:
        # Whatever the cause, such as a machine without a C compiler, training can go on.
        warnings.warn(
            f"Triton cannot build a kernel here ({error}); torch's own sparse products are used, which take "
            "up to a third longer and do not give the same bits every time",
            stacklevel=2,
        )
        return SparseCodes
    return TritonCodes
