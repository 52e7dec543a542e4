"""Reconstruction: how much of the residual stream, and of the model's predictions, an SAE keeps.

The metrics of the paper's reconstruction figures (normalised MSE, loss recovered against two baselines) and
the ones that describe an SAE's use of its latents. "Active" means different from zero, so that signed latents
count like others; no score changes when a latent's sign is flipped in encoder and decoder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from abench import Context, LanguageModel, Metric, Scores, Task, ordinary, site_name

from .held_out import held_out_rows

TWO_SIDED_SHARE = 0.05
"""Each sign's least share of the firings of a latent that counts as two-sided."""
ANTIPODAL_COSINE = -0.7
_DECODER_CHUNK = 4096


class Core(Task):
    """Reconstruction error, loss recovered, sparsity and the use of latents, on held-out text."""

    name: ClassVar[str] = "core"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("l0", None, "L0", headline=True, description="mean number of latents different from zero"),
        Metric("mse", False, "MSE", description="mean squared error per token, summed over dimensions"),
        Metric("nmse", False, "nMSE", headline=True, description="mean of ||x − x̂||² / ||x||²"),
        Metric(
            "explained_variance",
            True,
            "expl. var.",
            headline=True,
            description="1 − sum ||x − x̂||² / sum ||x − mean||²",
        ),
        Metric(
            "loss_recovered_zero",
            True,
            "loss rec.",
            headline=True,
            description="(CE_zero − CE_sae) / (CE_zero − CE_clean)",
        ),
        Metric(
            "loss_recovered_mean",
            True,
            "loss rec. (mean)",
            description="(CE_mean − CE_sae) / (CE_mean − CE_clean)",
        ),
        Metric("ce_clean", None, "CE clean", description="cross-entropy of the model itself, nats per token"),
        Metric("ce_sae", False, "CE SAE", description="cross-entropy with the SAE's reconstruction in place"),
        Metric("ce_zero", None, "CE zero", description="cross-entropy with the residual stream set to 0"),
        Metric(
            "ce_mean", None, "CE mean", description="cross-entropy with the residual stream set to its mean"
        ),
        Metric(
            "kl",
            False,
            "KL",
            headline=True,
            description="KL divergence of the predictions, clean from reconstructed, nats per token",
        ),
        Metric("dead_fraction", False, "dead", headline=True, description="latents that never fire"),
        Metric(
            "two_sided_fraction",
            None,
            "two-sided",
            headline=True,
            description="alive latents with at least 5 % of their firings on each side of zero",
        ),
        Metric(
            "antipodal_fraction",
            None,
            "antipodal",
            headline=True,
            description="alive latents with a pole that points against a pole of another (cosine < −0.7)",
        ),
    )

    outlier_norm: float | None = 10.0
    """Positions with a norm above this multiple of the median keep their clean residual, as SAEs are not
    trained on them by default; None replaces them as well."""

    def prepare(self, lm: LanguageModel, ctx: Context) -> "Clean":
        """The clean pass and the two ablated ones; they do not depend on the SAE."""
        tokens = held_out_rows(lm, ctx)
        batches = torch.split(tokens, ctx.evaluation.batch_size)
        top_site = site_name(lm.n_layers - 1)
        passes = [lm.residuals(batch, [ctx.site, top_site]) for batch in batches]
        residuals = [p[ctx.site] for p in passes]
        masks = self._masks(tokens, residuals, lm, ctx)
        mean = torch.cat([r[m] for r, m in zip(residuals, masks, strict=True)]).double().mean(0)
        clean = Clean(batches, residuals, [p[top_site] for p in passes], masks, mean)
        clean.ce = clean.cross_entropies(lm, ctx.site, mean)
        return clean

    def _masks(
        self, tokens: Tensor, residuals: list[Tensor], lm: LanguageModel, ctx: Context
    ) -> list[Tensor]:
        """The positions, [rows, context] a batch, at which the residual stream is replaced and scored."""
        masks = [ordinary(b, lm).to(lm.device) for b in torch.split(tokens, ctx.evaluation.batch_size)]
        if self.outlier_norm is None:
            return masks
        norms = [r.float().norm(dim=-1) for r in residuals]
        median = torch.cat([n[m] for n, m in zip(norms, masks, strict=True)]).median()
        return [m & (n <= self.outlier_norm * median) for n, m in zip(norms, masks, strict=True)]

    def score(self, sae: Any, prepared: "Clean", lm: LanguageModel, ctx: Context) -> Scores:
        sums = _Sums(sae.cfg.d_sae, lm.device)
        for tokens, residual, top, mask in prepared.each():
            x = residual[mask].float()
            codes = sae.encode(x)
            x_hat = sae.decode(codes)
            sums.add_reconstruction(x, x_hat, codes, prepared.mean)
            patched = _patched(residual, mask, x_hat)
            sae_logits = lm.logits_from(patched, tokens, ctx.site)
            clean_logits = lm.logits_from(top, tokens, site_name(lm.n_layers - 1))
            sums.add_predictions(lm, tokens, mask, sae_logits, clean_logits)
        return sums.scores(prepared.ce) | _latent_use(sums, sae.W_dec.detach().float())


def _patched(residual: Tensor, mask: Tensor, values: Tensor) -> Tensor:
    """`residual` with `values` [masked positions, d] (or [d]) at the masked positions."""
    patched = residual.clone()
    patched[mask] = values.to(patched.dtype)
    return patched


def _predicted(mask: Tensor) -> Tensor:
    """The predictions that count, [rows, context − 1]: those made at replaced positions."""
    return mask[:, :-1]


@dataclass
class Clean:
    """What all SAEs of a site are compared with, batch by batch."""

    tokens: tuple[Tensor, ...]
    """[rows, context] each."""
    residuals: list[Tensor]
    """The residual stream at the site, [rows, context, d_model] each."""
    tops: list[Tensor]
    """The residual stream after the last block; the clean predictions follow from it without another pass."""
    masks: list[Tensor]
    mean: Tensor
    """Mean residual over the replaced positions, [d_model], float64."""
    ce: dict[str, float] | None = None
    """Cross-entropies without any SAE, nats per token."""

    def each(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        return zip(self.tokens, self.residuals, self.tops, self.masks, strict=True)

    def cross_entropies(self, lm: LanguageModel, site: str, mean: Tensor) -> dict[str, float]:
        totals = {"ce_clean": 0.0, "ce_zero": 0.0, "ce_mean": 0.0}
        count = 0
        top_site = site_name(lm.n_layers - 1)
        for tokens, residual, top, mask in self.each():
            logits = {
                "ce_clean": lm.logits_from(top, tokens, top_site),
                "ce_zero": lm.logits_from(_patched(residual, mask, torch.zeros_like(mean)), tokens, site),
                "ce_mean": lm.logits_from(_patched(residual, mask, mean), tokens, site),
            }
            for name, each in logits.items():
                totals[name] -= float(lm.log_probs(tokens, each)[_predicted(mask)].double().sum())
            count += int(_predicted(mask).sum())
        return {name: total / count for name, total in totals.items()}


class _Sums:
    """Running sums over positions, in float64, and firings a latent."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.positions = self.predictions = 0
        self.error = self.relative_error = self.variance = self.active = self.ce = self.kl = 0.0
        self.positive = torch.zeros(width, dtype=torch.int64, device=device)
        self.negative = torch.zeros(width, dtype=torch.int64, device=device)

    def add_reconstruction(self, x: Tensor, x_hat: Tensor, codes: Tensor, mean: Tensor) -> None:
        error = (x - x_hat).double().square().sum(-1)
        self.positions += len(x)
        self.error += float(error.sum())
        self.relative_error += float((error / x.double().square().sum(-1)).sum())
        self.variance += float((x.double() - mean).square().sum())
        self.positive += (codes > 0).sum(0)
        self.negative += (codes < 0).sum(0)

    def add_predictions(
        self, lm: LanguageModel, tokens: Tensor, mask: Tensor, sae_logits: Tensor, clean_logits: Tensor
    ) -> None:
        counted = _predicted(mask)
        self.predictions += int(counted.sum())
        self.ce -= float(lm.log_probs(tokens, sae_logits)[counted].double().sum())
        clean = clean_logits[:, :-1][counted].float().log_softmax(-1)
        reconstructed = sae_logits[:, :-1][counted].float().log_softmax(-1)
        self.kl += float((clean.exp() * (clean - reconstructed)).sum(-1).double().sum())

    def scores(self, ce: dict[str, float] | None) -> dict[str, float]:
        if ce is None:
            raise ValueError("the clean pass has not been made")
        ce_sae = self.ce / self.predictions
        firings = int((self.positive + self.negative).sum())
        return ce | {
            "l0": firings / self.positions,
            "mse": self.error / self.positions,
            "nmse": self.relative_error / self.positions,
            "explained_variance": 1 - self.error / self.variance,
            "ce_sae": ce_sae,
            "loss_recovered_zero": (ce["ce_zero"] - ce_sae) / (ce["ce_zero"] - ce["ce_clean"]),
            "loss_recovered_mean": (ce["ce_mean"] - ce_sae) / (ce["ce_mean"] - ce["ce_clean"]),
            "kl": self.kl / self.predictions,
        }


def _latent_use(sums: _Sums, decoder: Tensor) -> dict[str, float]:
    """Shares of latents: dead of all, two-sided and antipodal of the alive; decoder is [width, d]."""
    firings = sums.positive + sums.negative
    alive = firings > 0
    if not bool(alive.any()):
        raise ValueError("no latent fires on the held-out text, so its use of latents is undefined")
    positive, negative = sums.positive[alive], sums.negative[alive]
    two_sided = torch.minimum(positive, negative) >= TWO_SIDED_SHARE * firings[alive]
    main_pole = torch.where(positive >= negative, 1.0, -1.0)
    opposed = _has_antipode(decoder[alive] * main_pole[:, None], two_sided)
    return {
        "dead_fraction": 1 - float(alive.double().mean()),
        "two_sided_fraction": float(two_sided.double().mean()),
        "antipodal_fraction": float(opposed.double().mean()),
    }


def _has_antipode(poles: Tensor, two_sided: Tensor) -> Tensor:
    """Which latents have a pole that points against a pole of another latent (cosine below −0.7).

    `poles` [latents, d] is each latent's direction on the side where it fires more; a two-sided latent has
    the opposite direction as a second pole. For latents that fire on one side this is the plain comparison of
    decoder rows, and flipping a latent's sign changes nothing. In chunks, so that memory stays bounded.
    """
    unit = poles / poles.norm(dim=-1, keepdim=True)
    found = []
    for start in range(0, len(unit), _DECODER_CHUNK):
        cosines = unit[start : start + _DECODER_CHUNK] @ unit.T
        second_pole = two_sided[start : start + _DECODER_CHUNK, None] | two_sided
        against = (cosines < ANTIPODAL_COSINE) | (second_pole & (cosines > -ANTIPODAL_COSINE))
        against.diagonal(start).fill_(False)
        found.append(against.any(-1))
    return torch.cat(found)
