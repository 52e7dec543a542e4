"""The training step: an SAE's loss and gradients, derived by hand so that sparsity makes them cheap.

`make_step` returns the step for a sae-lens training SAE. Its loss and gradients equal those of sae-lens's own
forward pass and autograd, up to rounding; benchmarks/train_step.py measures the speed-up on a CPU and
benchmarks/cuda_step.py on a GPU.
"""

from typing import Any, Literal

import torch
from sae_lens import (
    AbsTopKTrainingSAE,
    BatchTopKTrainingSAE,
    GatedTrainingSAE,
    JumpReLUTrainingSAE,
    StandardTrainingSAE,
    TopKTrainingSAE,
    TrainingSAE,
)

from abench.kernels.routes import has_derived_steps
from abench.latents.decoding import normalises_tokens
from abench.training.steps.autograd import AutogradStep
from abench.training.steps.base import Step, StepResult
from abench.training.steps.gated import GatedStep
from abench.training.steps.jumprelu import JumpReLUStep
from abench.training.steps.relu import ReLUStep
from abench.training.steps.topk import TopKStep
from abench.variants.batchabstopk_sae import BatchAbsTopKTrainingSAE

__all__ = ["AutogradStep", "Step", "StepResult", "make_step"]


def make_step(sae: TrainingSAE[Any], *, precision: Literal["float32", "bfloat16"] = "float32") -> Step:
    """The step with hand-derived gradients, or with autograd for architectures and options without one.

    `bfloat16` keeps weights, gradients and sums in float32. For the TopK family, it rounds the factors of the
    encoder's product, the only dense product; for others, it uses autograd under autocast with all products
    in bfloat16.
    """
    low = torch.bfloat16 if precision == "bfloat16" else None
    if (
        normalises_tokens(sae)
        or sae.dtype not in (torch.float32, torch.float64)
        or not has_derived_steps(sae.W_enc.device)
    ):
        return AutogradStep(sae, autocast=low)
    # The exact class: a subclass may compute something else.
    kind = type(sae)
    if kind in (TopKTrainingSAE, AbsTopKTrainingSAE, BatchTopKTrainingSAE, BatchAbsTopKTrainingSAE):
        return TopKStep(sae, product=low)
    if low is not None:
        return AutogradStep(sae, autocast=low)
    if kind is StandardTrainingSAE and sae.cfg.lp_norm == 1:
        return ReLUStep(sae)
    if kind is GatedTrainingSAE:
        return GatedStep(sae)
    if kind is JumpReLUTrainingSAE and sae.cfg.jumprelu_sparsity_loss_mode in ("step", "tanh"):
        return JumpReLUStep(sae)
    return AutogradStep(sae)
