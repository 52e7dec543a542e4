"""The step of TopK, AbsTopK and their batch-level versions.

Only the encoder's forward product is dense. The k active latents of each token are selected by group maxima;
decoding, the gradients of their values and the gradients of the weights are sparse products.
"""

from collections.abc import Mapping
from typing import Any

import torch
from sae_lens import AbsTopKTrainingSAE, BatchTopKTrainingSAE, TrainingSAE
from torch import Tensor

from abench.kernels.routes import codes_class
from abench.kernels.scratch import scratch
from abench.kernels.selection import top_of_batch, top_of_rows
from abench.kernels.sparse_codes import SparseCodes
from abench.training.steps.auxiliary import DeadLatents, auxiliary
from abench.training.steps.base import DerivedStep, StepResult


class TopKStep(DerivedStep):
    """The loss and gradients of TopK variants.

    With `rescale_acts_by_decoder_norm`, latents are ranked by pre-activation times decoder norm. Decoding
    divides by the norm again, so the plain pre-activation is decoded and the norm's gradient cancels exactly.
    """

    def __init__(self, sae: TrainingSAE[Any], *, product: torch.dtype | None = None) -> None:
        """`product` is the dtype to which the encoder's factors are rounded; None leaves them unchanged."""
        super().__init__(sae)
        self.product = product
        self.codes = codes_class(sae.W_enc.device)
        self.signed = isinstance(sae, AbsTopKTrainingSAE)
        self.batch_level = isinstance(sae, BatchTopKTrainingSAE)
        self.rescale = bool(sae.cfg.rescale_acts_by_decoder_norm)

    def descend(self, batch: Tensor, coefficients: Mapping[str, float], dead: Tensor) -> StepResult:
        """See DerivedStep."""
        sae, gradients = self.sae, self.gradients
        dead_index = dead.nonzero().squeeze(1)  # first: it waits for the GPU, which has little to do yet
        centred = self.centred(batch)
        norms = sae.W_dec.norm(dim=-1) if self.rescale else None
        ranked = self._ranked(centred, norms)
        codes = self._select(ranked)
        values = codes.values if norms is None else codes.values / codes.spread(norms)
        if not self.signed:
            values = values.relu_()

        residual = codes.decode(values, sae.W_dec).add_(sae.b_dec).sub_(batch)
        slope = residual * (2 / len(batch))
        codes.add_outer(values, slope, gradients["W_dec"], first=True)
        value_slope = codes.sample(slope, sae.W_dec)
        if not self.signed:
            value_slope *= values > 0
        codes.add_inner(centred, value_slope, gradients["W_enc"], first=True)
        gradients["b_enc"] += codes.sum(value_slope)

        revival = self._revive(ranked, norms, centred, residual, dead_index)
        gradients["b_dec"] += slope.sum(0)
        self.subtract_input_bias(gradients["b_enc"])
        active = codes.sum((values != 0).to(values.dtype))
        # In one transfer: each separate one would synchronise with the GPU.
        error, more, count = torch.stack([residual.square().sum(), revival, active.sum()]).tolist()
        mse = error / len(batch)
        return StepResult(mse + more, mse, count / len(batch), active > 0)

    def _ranked(self, centred: Tensor, norms: Tensor | None) -> Tensor:
        """The values that latents are ranked by, [tokens, width], in a shared buffer."""
        weight, bias = self.sae.W_enc, self.sae.b_enc
        if norms is not None:
            scaled = scratch("weight", len(weight), len(bias), like=weight)
            weight, bias = torch.mul(weight, norms, out=scaled), bias * norms
        out = scratch("pre-activations", len(centred), len(bias), like=centred)
        if self.product is None:
            return torch.addmm(bias, centred, weight, out=out)
        factors = centred.to(self.product), weight.to(self.product)
        if centred.is_cuda:
            product = torch.mm(*factors, out_dtype=torch.float32)
        else:  # the same sums; a CPU lacks this product
            product = factors[0].float() @ factors[1].float()
        return torch.add(product, bias, out=out)

    def _select(self, ranked: Tensor) -> SparseCodes:
        if not self.batch_level:
            return self.codes.in_columns(ranked, top_of_rows(ranked, self.sae.cfg.k, signed=self.signed))
        count = int(self.sae.cfg.k * len(ranked))
        codes = self.codes.at(ranked, top_of_batch(ranked, count, signed=self.signed))
        self._remember(codes.values)
        return codes

    def _remember(self, values: Tensor) -> None:
        """Update sae-lens's running mean of the smallest selected size; `calibrate` replaces it later."""
        if len(values):
            threshold, rate = self.sae.topk_threshold, self.sae.cfg.topk_threshold_lr
            smallest = values.abs().min().to(threshold.dtype)
            self.sae.topk_threshold = (1 - rate) * threshold + rate * smallest

    def _revive(
        self, ranked: Tensor, norms: Tensor | None, centred: Tensor, residual: Tensor, index: Tensor
    ) -> Tensor:
        """Add the gradients of the auxiliary loss of the latents at `index`, and return the loss."""
        coefficient = self.sae.cfg.aux_loss_coefficient
        if not len(index) or not coefficient:
            return residual.new_zeros(())
        ranks = ranked.index_select(1, index)
        values = ranks.clone() if norms is None else ranks / norms[index]
        latents = DeadLatents(
            index, ranks.abs_() if self.signed else ranks, values, self.sae.W_dec.index_select(0, index)
        )
        found = auxiliary(latents, -residual, coefficient)
        self.gradients["W_dec"].index_add_(0, index, found.decoder)
        self.gradients["W_enc"].index_add_(1, index, centred.T @ found.values)
        self.gradients["b_enc"].index_add_(0, index, found.values.sum(0))
        return found.loss
