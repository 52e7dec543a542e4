"""SAEs for the tests of steering: every registered variant as inference has it, and other ways to see one."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from signed import random_sae

from abench import SplitSAE
from abench.conformance.rewritten import normalising
from abench.variants import get_variant, load_sae, save_sae, variant_names

D_IN, WIDTH, K = 128, 256, 8
PAPER = ["relu", "gated", "jumprelu", "topk", "batchtopk", "abstopk", "batchabstopk"]
VARIANTS = [*PAPER, *sorted(set(variant_names()) - set(PAPER))]


@cache
def exported(variant: str, width: int = WIDTH) -> Any:
    """A random SAE of a variant, calibrated where it has a threshold, saved and loaded."""
    generator = torch.Generator().manual_seed(1)
    sae = random_sae(variant, d_in=D_IN, width=width, k=K)
    get_variant(variant).calibrate(sae, torch.randn(500, D_IN, generator=generator), K)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if name in {"b_enc", "b_gate", "b_mag", "r_mag"}:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    with TemporaryDirectory() as folder:
        save_sae(sae, Path(folder), scale=1.0, metadata={})
        return load_sae(Path(folder)).eval()


def seen(variant: str, how: str) -> Any:
    """A variant's SAE as it is, `split`, with `layer_norm` inputs, as it is in `training`, or several."""
    if how == "training":
        return random_sae(variant, d_in=D_IN, width=WIDTH, k=K)
    sae = exported(variant)
    if "layer_norm" in how:
        sae = normalising(sae, "layer_norm")
    if "rescaled" in how:
        sae = normalising(sae, "constant_norm_rescale")
    return SplitSAE(sae) if "split" in how else sae


HOW = ["plain", "split", "layer_norm", "rescaled", "split, layer_norm", "training"]
