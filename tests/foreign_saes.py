"""SAEs of other libraries and activations to compare them on."""

from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from sae_lens.registry import SAE_CLASS_REGISTRY
from torch import Tensor

import abench.variants.saes  # noqa: F401 - registers abench's architectures

D_IN, WIDTH, K = 24, 96, 8
OPTIONS: dict[str, dict[str, Any]] = {
    "topk": {"k": K},
    "abstopk": {"k": K},
    "signedtopk": {"k": K},
    "multistep": {"k": K},
}
METADATA = {
    "model_name": "tiny",
    "hook_name": "blocks.2.hook_resid_post",
    "context_size": 64,
    "prepend_bos": True,
}


def activations(tokens: int = 400, seed: int = 0, d_in: int = D_IN) -> Tensor:
    """Activations [tokens, d_in] with a mean and directions of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    mean, mixing = torch.randn(d_in, generator=generator), torch.randn(d_in, d_in, generator=generator)
    return torch.randn(tokens, d_in, generator=generator) @ mixing / d_in**0.5 + mean


def scorable_architectures() -> list[str]:
    """The architectures in sae-lens's registry whose SAEs reconstruct what they read, token by token."""
    return [name for name in SAE_CLASS_REGISTRY if "transcoder" not in name and name != "temporal"]


def saelens_sae(architecture: str, d_in: int = D_IN, **settings: Any) -> sae_lens.SAE[Any]:
    """An SAE of an architecture with random weights, including biases, thresholds and decoder norms."""
    sae_class, config_class = SAE_CLASS_REGISTRY[architecture]
    config = config_class(d_in=d_in, d_sae=WIDTH, **OPTIONS.get(architecture, {}), **settings)
    for name, value in METADATA.items():
        config.metadata[name] = value
    torch.manual_seed(3)
    sae: sae_lens.SAE[Any] = sae_class(config)
    with torch.no_grad():
        for name, tensor in sae.named_parameters():
            if tensor.ndim == 1:
                tensor.copy_(torch.rand_like(tensor) * 0.3)
            if name == "W_dec":
                tensor.mul_(torch.rand(len(tensor), 1) + 0.5)
    return sae


def saved(sae: sae_lens.SAE[Any], folder: Path) -> Path:
    """A folder as sae-lens saves an SAE."""
    sae.save_model(folder)
    return folder


def assert_same(ours: Any, theirs_codes: Tensor, theirs_output: Tensor, x: Tensor) -> None:
    """Codes and reconstructions are equal to 1e-5."""
    with torch.no_grad():
        codes = ours.encode(x)
        torch.testing.assert_close(codes, theirs_codes, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.decode(codes), theirs_output, atol=1e-5, rtol=1e-5)
    assert (codes != 0).any()


def library(name: str) -> Any:
    """A module of another library that trains SAEs; the test is skipped where it is not installed."""
    return pytest.importorskip(name, reason="`nox -s tests` installs the other libraries (noxfile.py)")
