"""SAEs for the tests of AutoInterp: latents that are an axis, and latents that fire without any reason."""

from typing import Any

import torch
from scipy.spatial import cKDTree

from abench import LanguageModel, as_sae, ordinary
from abench.tinyworld import labels

AXES = ("gender", "formality")


class Axes:
    """Latents that fire at the words of an axis and nowhere else, with the sign of the pole.

    It recognises the activations of given rows of tokens, so that it is right at every site and at every
    word; a linear encoder is not. Codes vary between 1 and 2.
    """

    def __init__(self, lm: LanguageModel, site: str, rows: torch.Tensor) -> None:
        self._see = torch.randn(lm.d_model, 3, generator=torch.Generator().manual_seed(0))
        self.W_dec = torch.eye(lm.d_model)[: len(AXES)]
        mask = ordinary(rows, lm)
        seen = torch.cat([lm.residual(part, site).float() for part in torch.split(rows, 32)])[mask]
        poles = torch.tensor([_poles(lm.tokenizer.decode([token])) for token in range(lm.vocabulary)])
        generator = torch.Generator().manual_seed(1)
        self._codes = poles[rows[mask]] * (1 + torch.rand(len(seen), 1, generator=generator))
        self._tree = cKDTree((seen @ self._see).numpy())

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        distance, found = self._tree.query((x.float() @ self._see).numpy())
        known = torch.from_numpy(distance < 1e-2)[..., None]
        return torch.where(known, self._codes[torch.from_numpy(found)], 0.0)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes @ self.W_dec


def _poles(token: str) -> list[float]:
    known = labels().get(token.strip(), ())
    return [float(f"{axis}+" in known) - float(f"{axis}-" in known) for axis in AXES]


class Senseless:
    """Latents that fire with either sign on about one token in fifty, for no reason that a token shows."""

    def __init__(self, d_in: int, latents: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.W_dec = torch.randn(latents, d_in, generator=generator)
        self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        waves = torch.sin(3e3 * (x @ self.W_dec.T))
        return torch.where(waves.abs() > 0.9995, waves, 0.0)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes @ self.W_dec


def senseless_sae(lm: LanguageModel, latents: int = 40) -> Any:
    return as_sae(Senseless(lm.d_model, latents))
