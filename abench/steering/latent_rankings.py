"""How well each latent of an SAE represents a contrast of two lists of prompts, by several criteria."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from scipy.stats import rankdata
from torch import Tensor

from abench.latents.anyones import usable
from abench.latents.codes import PoleCodes, residual_csr
from abench.latents.decoding import latent_directions
from abench.latents.parts import dense_parts
from abench.latents.pooling import pool
from abench.latents.views import SplitSAE, base_of
from abench.lm.models import LanguageModel
from abench.lm.tokens import prompt_rows
from abench.sae import SAE
from abench.steering.concepts import Pooling, checked_prompts, last_residuals

_POOLINGS: tuple[Pooling, ...] = ("mean", "last")
_COLUMNS = 1024
"""Latents whose pooled codes are dense at the same time."""


@dataclass(frozen=True, eq=False)
class LatentRanking:
    """A signed value for each latent: the larger its absolute value, the better the candidate."""

    values: Tensor
    """[latents], float64; a positive value means that the positive pole is on the side of the positive
    prompts, or raises the objective. 0 for a latent that is no candidate."""
    ties: Tensor
    """[latents], float64: its absolute value decides between latents of equal absolute value."""

    def order(self) -> Iterator[int]:
        """The latents whose value is not 0, the best first."""
        # Among the two poles of a latent in the split view, the one that needs no negative code comes first.
        keys = (-self.values.numpy(), -self.ties.abs().numpy(), -self.values.abs().numpy())
        yield from (int(latent) for latent in np.lexsort(keys) if self.values[latent] != 0)

    def __repr__(self) -> str:
        return f"LatentRanking({int((self.values != 0).sum())} of {len(self.values)} latents)"


def latent_rankings(
    lm: LanguageModel,
    sae: SAE,
    positive: Sequence[str],
    negative: Sequence[str],
    site: str,
    *,
    gradient: Tensor | None = None,
) -> Mapping[str, LatentRanking]:
    """Rankings of an SAE's latents for a contrast, by the name of the criterion.

    - `difference, mean` and `difference, last`: the mean code of the positive minus that of the negative
      prompts, in units of the residual stream, pooled over all tokens or at the last one.
    - `separation, mean` and `separation, last`: area under the ROC curve minus 0.5, between −0.5 and 0.5: how
      reliably the pooled code tells a positive from a negative prompt. Equal areas are ordered by difference.
    - `gradient`, if one is given (see `objective_gradient`): by how much the objective rises per unit of
      length that the residual stream is moved along the latent, for latents that fire on some prompt.

    Flipping the signs of latents flips the values, reordering latents reorders them, and writing the same
    function in another unit changes nothing. In the split view, values are those of single poles. Raises
    UserError as `mean_difference` does.
    """
    sae = usable(sae)
    prompts = checked_prompts(lm, positive, negative)
    differing: dict[str, LatentRanking] = {}
    separating: dict[str, LatentRanking] = {}
    fires = torch.zeros(int(sae.cfg.d_sae), dtype=torch.bool)
    for pooling in _POOLINGS:
        codes = _pooled_codes(lm, sae, prompts, site, pooling)
        fires[_firing(codes)] = True
        differences = _differences(codes, len(positive))
        differing[f"difference, {pooling}"] = LatentRanking(differences, differences)
        separating[f"separation, {pooling}"] = LatentRanking(_areas(codes, len(positive)) - 0.5, differences)
    rankings = differing | separating
    if gradient is not None:
        rows = latent_directions(sae)
        values = (rows @ gradient.to(rows.device, rows.dtype)).double().cpu() * fires
        rankings["gradient"] = LatentRanking(values, values)
    return rankings


def firing_latents(lm: LanguageModel, sae: SAE, prompts: Sequence[str], site: str) -> list[int]:
    """The latents of an SAE that fire on some token of some prompt, sorted."""
    latents: list[int] = _firing(_pooled_codes(lm, usable(sae), prompts, site, "mean")).tolist()
    return latents


@torch.no_grad()
def _pooled_codes(
    lm: LanguageModel, sae: SAE, prompts: Sequence[str], site: str, pooling: Pooling
) -> PoleCodes:
    """An SAE's pooled codes of each prompt, in its view."""
    if pooling == "mean":
        context = lm.max_context or max(map(len, prompt_rows(lm, prompts)))
        return pool(lm, prompts, site=site, saes=[base_of(sae)], context=context).codes(sae)
    base = base_of(sae)
    last = last_residuals(lm, prompts, site).to(base.device)
    rows = csr_array(vstack([residual_csr(base, part) for part in dense_parts(base, last)], format="csr"))
    negative = csr_array((-rows).maximum(0))
    codes = PoleCodes(csr_array(rows.maximum(0)), negative if negative.nnz else None)
    return codes.split() if isinstance(sae, SplitSAE) else codes


def _differences(codes: PoleCodes, positive: int) -> Tensor:
    """Mean signed code of the first `positive` prompts minus that of the others: [latents], float64."""
    ours, others = codes.means(slice(positive)), codes.means(slice(positive, None))
    return (ours[0] - ours[1]) - (others[0] - others[1])


def _areas(codes: PoleCodes, positive: int) -> Tensor:
    """The area under the ROC curve of each latent's signed code, [latents] in float64; ties count half."""
    areas = torch.full((codes.latents,), 0.5, dtype=torch.float64)
    for latents in np.array_split(_firing(codes).numpy(), -(-codes.latents // _COLUMNS)):
        if len(latents):
            values = codes.columns(latents).numpy()
            ranks = rankdata(values, axis=0)[:positive].sum(0)
            pairs = positive * (len(values) - positive)
            areas[latents] = torch.from_numpy((ranks - positive * (positive + 1) / 2) / pairs)
    return areas


def _firing(codes: PoleCodes) -> Tensor:
    """The latents with a code other than 0, sorted."""
    found = [np.unique(pole.nonzero()[1]) for pole in (codes.positive, codes.negative) if pole is not None]
    return torch.from_numpy(np.unique(np.concatenate(found)).astype(np.int64))
