"""The model's predictions with the activations at a site replaced by reconstructions, zeros or the mean.

The text is processed once for all SAEs of a site, because clean predictions and ablations are the same for
all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from abench import Context, Skip

from .._shared.held_out import held_out_rows, usual_positions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from abench import SAE, LanguageModel, OfEach, Reconstruction


_ROUNDING = 1e-6
"""Relative difference up to which two cross-entropies, computed in float32, count as equal."""
_DIMENSIONS_AT_ONCE = 64
"""Dimensions whose values at all positions are in memory in float64 at once."""


class Substitution:
    """The pass over the text and its results."""

    def __init__(self, lm: LanguageModel, ctx: Context, outlier_norm: float | None) -> None:
        """Process the text. Positions with a norm above `outlier_norm` times the median stay clean.

        Raises Skip if the text or the residual stream leaves a score undefined for every SAE.
        """
        import torch

        from abench import OfEach

        self._lm, self._site, self._ctx = lm, ctx.site, ctx
        self.tokens = torch.split(held_out_rows(lm, ctx), ctx.evaluation.batch_size)
        """Batches of token rows, each [rows, context]."""
        batches = ctx.track(self.tokens, "core: reading the held-out text", "batches")
        self._residuals = [lm.residual(batch, ctx.site) for batch in batches]
        self.masks = usual_positions(self.tokens, self._residuals, lm, outlier_norm)
        """Mask per batch, [rows, context], of the positions that are replaced and scored."""
        self._mean = self._mean_of_replaced()
        self._sums: OfEach[CoreSums] = OfEach()
        self.baselines = self._measure(tuple(dict.fromkeys(ctx.saes)))
        """Cross-entropies without any SAE, nats per token."""
        _check_ablations(self.baselines, ctx.site)

    def of(self, sae: SAE) -> CoreSums:
        """The sums of an SAE; raises its own error if it failed.

        An SAE that is not among the context's SAEs gets a separate pass.
        """
        from abench import base_of

        if sae not in self._sums:
            base = base_of(sae)
            sums = CoreSums(base.cfg.d_sae, self._lm.device)
            for batch in self._batches():
                self._add(base, sums, batch)
            self._sums.keep(base, sums)
        return self._sums(sae)

    def _mean_of_replaced(self) -> Tensor:
        """The mean of the replaced residuals, [d] in float64; raises Skip if they have no variance."""
        import torch

        count = sum(int(mask.sum()) for mask in self.masks)
        if count == 0:
            raise Skip(f"all positions of the held-out text are outliers at {self._site}: raise outlier_norm")
        means, alike = [], True
        # Some dimensions at a time: a copy of all residuals in float64 can be larger than the model.
        for begin in range(0, self._lm.d_model, _DIMENSIONS_AT_ONCE):
            some = slice(begin, begin + _DIMENSIONS_AT_ONCE)
            pairs = zip(self._residuals, self.masks, strict=True)
            part = torch.cat([residual[..., some][mask] for residual, mask in pairs])
            alike = alike and bool((part == part[0]).all())
            means.append(part.double().mean(0))
        if alike:
            raise Skip(
                f"the activation at {self._site} is the same at all {count:,} positions of the held-out text,"
                " so it has no variance to explain"
            )
        return torch.cat(means)

    def _measure(self, saes: Sequence[SAE]) -> dict[str, float]:
        """The cross-entropies without any SAE; results of each SAE are added to its sums."""
        import torch

        totals = {"ce_clean": 0.0, "ce_zero": 0.0, "ce_mean": 0.0}
        count = 0
        for_each = {sae: CoreSums(sae.cfg.d_sae, self._lm.device) for sae in saes}
        for batch in self._batches():
            clean = batch.clean
            totals["ce_clean"] += clean.cross_entropy(clean.logits)
            for name, values in (("ce_zero", torch.zeros_like(self._mean)), ("ce_mean", self._mean)):
                totals[name] += clean.cross_entropy(self._logits(batch, values))
            count += len(clean.targets)
            for sae in saes:
                self._sums.attempt(sae, lambda s: self._add(s, for_each[s], batch))  # noqa: B023
        for sae in saes:
            if not self._sums.failed(sae):
                self._sums.keep(sae, for_each[sae])
        if not count:
            raise Skip(
                "no token of the held-out text is both scored at the site and followed by another token"
            )
        return {name: total / count for name, total in totals.items()}

    def _batches(self) -> Iterator[Batch]:
        pieces = list(self._pieces())
        for tokens, residual, mask in self._ctx.track(pieces, "core: predictions", "batches"):
            counted = mask[:, :-1]  # predictions made at replaced positions
            logits = self._lm.logits_from(residual, tokens, self._site)[:, :-1][counted].float()
            targets = tokens.to(logits.device)[:, 1:][counted]
            yield Batch(tokens, residual, mask, counted, Clean(logits, targets))

    def _pieces(self) -> Iterator[tuple[Tensor, ...]]:
        """Tokens, residuals and masks of so few rows that their logits fit into memory."""
        import torch

        for whole in zip(self.tokens, self._residuals, self.masks, strict=True):
            rows = self._lm.rows_with_logits(whole[0].shape[1])
            yield from zip(*(torch.split(each, rows) for each in whole), strict=True)

    def _add(self, sae: SAE, sums: CoreSums, batch: Batch) -> None:
        from abench import reconstruct

        x = batch.residual[batch.mask].float()
        found = reconstruct(sae, x)
        sums.add_reconstruction(x, found, self._mean)
        sums.add_predictions(batch.clean, self._logits(batch, found.x_hat))

    def _logits(self, batch: Batch, values: Tensor) -> Tensor:
        """Logits of the counted predictions, [predictions, vocabulary], after patching.

        `values`, [positions, d] or [d], replace the residual stream at the masked positions.
        """
        patched = batch.residual.clone()
        patched[batch.mask] = values.to(patched.dtype)
        logits = self._lm.logits_from(patched, batch.tokens, self._site)
        return logits[:, :-1][batch.counted].float()


@dataclass
class Clean:
    """The model's clean predictions at the counted positions."""

    logits: Tensor
    """[predictions, vocabulary]."""
    targets: Tensor
    """The actual next tokens, [predictions]."""
    norm: Tensor = field(init=False)
    """Log-sum-exp of the logits, [predictions]."""
    probabilities: Tensor = field(init=False)
    """[predictions, vocabulary]."""

    def __post_init__(self) -> None:
        self.norm = self.logits.logsumexp(-1)
        self.probabilities = (self.logits - self.norm[:, None]).exp_()

    def cross_entropy(self, logits: Tensor) -> float:
        """Cross-entropy of logits [predictions, vocabulary] with the next tokens, in nats, summed."""
        return self._cross_entropy(logits, logits.logsumexp(-1))

    def compare(self, logits: Tensor) -> tuple[float, float]:
        """Cross-entropy of other predictions and KL(clean || other), from logits [predictions, vocabulary].

        Both are in nats and summed over predictions.
        """
        import torch

        norm = logits.logsumexp(-1)
        # Σ p (log p − log q) from differences of logits, which are small where the divergence is small.
        kl = norm - self.norm - torch.einsum("nv,nv->n", self.probabilities, logits - self.logits)
        return self._cross_entropy(logits, norm), float(kl.double().sum())

    def _cross_entropy(self, logits: Tensor, norm: Tensor) -> float:
        return float((norm - logits.gather(-1, self.targets[:, None])[:, 0]).double().sum())


@dataclass(frozen=True)
class Batch:
    """Some rows of the text, with the clean values that all SAEs are compared with."""

    tokens: Tensor
    """[rows, context]."""
    residual: Tensor
    """The residual stream at the site, [rows, context, d]."""
    mask: Tensor
    """Mask of replaced positions, [rows, context]."""
    counted: Tensor
    """Mask of counted predictions, [rows, context − 1]."""
    clean: Clean


class CoreSums:
    """Running sums over positions, in float64, and firing counts per latent."""

    def __init__(self, width: int, device: torch.device) -> None:
        import torch

        self.positions = self.predictions = self.different_from_zero = 0
        self.error = self.relative_error = self.variance = self.ce = self.kl = 0.0
        self.positive = torch.zeros(width, dtype=torch.int64, device=device)
        self.negative = torch.zeros(width, dtype=torch.int64, device=device)

    def split(self) -> CoreSums:
        """The sums of the same SAE in the split view, whose latents are the poles."""
        import torch

        other = copy(self)
        other.positive = torch.cat([self.positive, self.negative])
        other.negative = torch.zeros_like(other.positive)
        return other

    def add_reconstruction(self, x: Tensor, found: Reconstruction, mean: Tensor) -> None:
        """Add the errors and firings of inputs [positions, d]."""
        error = (x - found.x_hat).double().square().sum(-1)
        squares = x.double().square().sum(-1)
        is_some = squares > 0
        self.positions += len(x)
        self.different_from_zero += int(is_some.sum())
        self.error += float(error.sum())
        self.relative_error += float((error[is_some] / squares[is_some]).sum())
        self.variance += float((x.double() - mean).square().sum())
        self.positive += found.positive
        self.negative += found.negative

    def add_predictions(self, clean: Clean, logits: Tensor) -> None:
        """Add the losses of logits [predictions, vocabulary], computed with the reconstruction."""
        self.predictions += len(logits)
        ce, kl = clean.compare(logits)
        self.ce += ce
        self.kl += kl

    def scores(self, baselines: dict[str, float]) -> dict[str, float]:
        """The metrics of the core task, except those of the use of latents."""
        ce = self.ce / self.predictions
        firings = int((self.positive + self.negative).sum())
        return baselines | {
            "l0": firings / self.positions,
            "mse": self.error / self.positions,
            "nmse": self.relative_error / self.different_from_zero,
            "explained_variance": 1 - self.error / self.variance,
            "ce_sae": ce,
            "loss_recovered_zero": _recovered(ce, baselines["ce_zero"], baselines["ce_clean"]),
            "loss_recovered_mean": _recovered(ce, baselines["ce_mean"], baselines["ce_clean"]),
            "kl": self.kl / self.predictions,
        }


def _check_ablations(baselines: dict[str, float], site: str) -> None:
    """Raise Skip if ablating the residual stream does not change the loss, so nothing can be recovered."""
    clean = baselines["ce_clean"]
    for name, what in (("ce_zero", "to 0"), ("ce_mean", "to its mean")):
        if abs(baselines[name] - clean) <= _ROUNDING * abs(clean):
            raise Skip(
                f"setting the activations at {site} {what} leaves the model's cross-entropy at "
                f"{clean:.6g} nats per token, so there is no loss to recover"
            )


def _recovered(ce: float, ablated: float, clean: float) -> float:
    return (ablated - ce) / (ablated - clean)
