"""SAEs for the tests of bidirectionality: latents along the tiny world's axes, and latents along nothing."""

from functools import cache
from itertools import islice
from typing import Any

import torch
from signed import random_sae

from abench import LanguageModel, token_rows
from abench.tinyworld import World

AXES = ("gender", "formality")


@cache
def probes(lm: LanguageModel, site: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [d_model, axes] and biases [axes] that give 1 at words of an axis's +, −1 at −, 0 elsewhere."""
    documents = list(islice(World().documents("train", seed=7), 1500))
    tokens = token_rows(lm, [document.text for document in documents], 128)
    x, y = [], []
    for row, document in zip(tokens, documents, strict=True):
        x.append(lm.residual(torch.tensor([row]), site)[0, 1:].float())
        y += [[_target(labels, axis) for axis in AXES] for labels in document.concepts[: len(row) - 1]]
    streams = torch.cat(x)
    with_one = torch.cat([streams, torch.ones(len(streams), 1)], 1)
    # In float32 the rank that is found, and with it the solution, hangs on the last bits.
    found = torch.linalg.lstsq(with_one.double(), torch.tensor(y).double()).solution.float()
    return found[:-1], found[-1]


def _target(labels: tuple[str, ...], axis: str) -> float:
    return float(f"{axis}+" in labels) - float(f"{axis}-" in labels)


def planted(lm: LanguageModel, site: str, variant: str = "abstopk") -> Any:
    """An SAE whose first latents read the axes off; the others are random and too small to be chosen."""
    sae = random_sae(variant, width=64, k=4, seed=3)
    weights, biases = probes(lm, site)
    with torch.no_grad():
        sae.W_enc *= 1e-4
        sae.W_enc[:, : len(AXES)] = weights
        sae.b_enc.zero_()
        sae.b_enc[: len(AXES)] = biases
        sae.b_dec.zero_()
    return sae
