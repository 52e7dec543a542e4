"""What determines the bits of a model's activations, apart from its weights and the tokens."""

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

from abench.lm.models import LanguageModel

READING_VERSION = 1
"""Raise this whenever the same model gives other activations for the same rows of tokens."""


def computation_of(lm: LanguageModel) -> dict[str, Any]:
    """The precision, devices and software that a model computes with, as plain JSON.

    Equal values give equal bits. Two kinds of device sum in different orders, and so may two versions of
    torch, two numbers of threads and two ways to compute attention.
    """
    # Weights on the device `meta` wait elsewhere until they are needed on another one.
    devices = {lm.device, *(each.device for each in lm.model.parameters() if not each.is_meta)}
    return {
        "version": READING_VERSION,
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "devices": sorted({_kind_of(device) for device in devices}),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "attention": getattr(lm.model.config, "_attn_implementation", None),
        "products": torch.get_float32_matmul_precision(),
    }


def _kind_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return f"{device.type} {platform.processor()}"
    return f"{_cpu()}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


@cache
def _cpu() -> str:
    """The name of the processor, by which libraries choose their routines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # there is none outside Linux
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, f"{platform.machine()} {platform.processor()}")
