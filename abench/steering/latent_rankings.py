"""How well each latent of an SAE represents a contrast of two lists of prompts, by several criteria."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from scipy.stats import rankdata
from torch import Tensor

from abench.latents.anyones import usable
from abench.latents.codes import PoleCodes, residual_csr
from abench.latents.decoding import latent_directions
from abench.latents.of_each import OfEach
from abench.latents.parts import dense_parts
from abench.latents.pooling import pool
from abench.latents.views import base_of
from abench.lm.models import LanguageModel
from abench.lm.tokens import prompt_rows
from abench.sae import SAE
from abench.steering.concepts import Pooling, checked_prompts, last_residuals

_COLUMNS = 1024
"""Latents whose pooled codes are dense at the same time."""


@dataclass(frozen=True)
class ContrastCodes:
    """One SAE's codes of a contrast's prompts, the positive ones first, in units of the residual stream."""

    mean: PoleCodes
    """Averaged over each prompt's tokens, special tokens excluded."""
    last: PoleCodes
    """At each prompt's last token that is text."""
    positive: int
    """Number of positive prompts."""

    @property
    def pooled(self) -> Mapping[Pooling, PoleCodes]:
        """The codes by pooling."""
        return {"mean": self.mean, "last": self.last}

    @property
    def signed(self) -> bool:
        """Whether a code is negative at some token."""
        return self.mean.negative is not None

    @cached_property
    def firing(self) -> list[int]:
        """The latents that fire on some token of some prompt, sorted."""
        latents: list[int] = _firing(self.mean).tolist()
        return latents

    def split(self) -> "ContrastCodes":
        """The same codes of the SAE in the split view."""
        return ContrastCodes(self.mean.split(), self.last.split(), self.positive)

    def __repr__(self) -> str:
        texts = self.mean.positive.shape[0]
        return f"ContrastCodes({self.positive} against {texts - self.positive} prompts, {self.mean!r})"


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


@torch.no_grad()
def contrast_codes(
    lm: LanguageModel, saes: Sequence[SAE], positive: Sequence[str], negative: Sequence[str], site: str
) -> OfEach[ContrastCodes]:
    """The codes of two lists of prompts for each SAE at a site: `codes(sae)`, in that SAE's view.

    The model reads the prompts once for each pooling, however many SAEs there are. The error of an SAE that
    fails is raised when its codes are requested. Raises UserError as `mean_difference` does.
    """
    prompts = checked_prompts(lm, positive, negative)
    found: OfEach[ContrastCodes] = OfEach()
    bases = found.taken(base_of(sae) for sae in saes)
    context = lm.max_context or max(map(len, prompt_rows(lm, prompts)))
    means = pool(lm, prompts, site=site, saes=bases, context=context).codes
    last = last_residuals(lm, prompts, site)

    def both(sae: SAE) -> ContrastCodes:
        return ContrastCodes(means(sae), _codes(sae, last), len(positive))

    for base in bases:
        found.attempt(base, lambda sae: found.keep(sae, both(sae)))
    return found


def latent_rankings(
    sae: SAE, codes: ContrastCodes, *, gradient: Tensor | None = None
) -> Mapping[str, LatentRanking]:
    """Rankings of an SAE's latents for a contrast, by the name of the criterion.

    `codes` are those of `contrast_codes(...)(sae)`.

    - `difference, mean` and `difference, last`: the mean code of the positive minus that of the negative
      prompts, in units of the residual stream, pooled over all tokens or at the last one.
    - `separation, mean` and `separation, last`: area under the ROC curve minus 0.5, between −0.5 and 0.5: how
      reliably the pooled code tells a positive from a negative prompt. Equal areas are ordered by difference.
    - `gradient`, if one is given (see `objective_gradient`): by how much the objective rises per unit of
      length that the residual stream is moved along the latent, for latents that fire on some prompt.

    Flipping the signs of latents flips the values, reordering latents reorders them, and writing the same
    function in another unit changes nothing. In the split view, values are those of single poles.
    """
    sae = usable(sae)
    differing: dict[str, LatentRanking] = {}
    separating: dict[str, LatentRanking] = {}
    for pooling, each in codes.pooled.items():
        differences = _differences(each, codes.positive)
        differing[f"difference, {pooling}"] = LatentRanking(differences, differences)
        separating[f"separation, {pooling}"] = LatentRanking(_areas(each, codes.positive) - 0.5, differences)
    rankings = differing | separating
    if gradient is not None:
        rows = latent_directions(sae)
        fires = torch.zeros(codes.mean.latents, dtype=torch.bool)
        fires[codes.firing] = True
        values = (rows @ gradient.to(rows.device, rows.dtype)).double().cpu() * fires
        rankings["gradient"] = LatentRanking(values, values)
    return rankings


def _codes(sae: SAE, x: Tensor) -> PoleCodes:
    """An SAE's codes of activations x [prompts, d_model]."""
    rows = csr_array(
        vstack([residual_csr(sae, part) for part in dense_parts(sae, x.to(sae.device))], format="csr")
    )
    negative = csr_array((-rows).maximum(0))
    return PoleCodes(csr_array(rows.maximum(0)), negative if negative.nnz else None)


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
            # Newer versions of scipy rank float32 in float32.
            ranks = rankdata(values, axis=0)[:positive].sum(0, dtype=np.float64)
            pairs = positive * (len(values) - positive)
            areas[latents] = torch.from_numpy((ranks - positive * (positive + 1) / 2) / pairs)
    return areas


def _firing(codes: PoleCodes) -> Tensor:
    """The latents with a code other than 0, sorted."""
    found = [np.unique(pole.nonzero()[1]) for pole in (codes.positive, codes.negative) if pole is not None]
    return torch.from_numpy(np.unique(np.concatenate(found)).astype(np.int64))
