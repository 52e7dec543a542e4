"""The training step: loss and gradients of an SAE, derived by hand so that what is sparse costs little.

`make_step` gives the step for a sae-lens training SAE. Its loss and gradients are those of sae-lens's own
forward pass and autograd, up to rounding; benchmarks/train_step.py measures what that saves on the CPU and
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

from abench.decoding import normalises_tokens
from abench.steps.autograd import AutogradStep
from abench.steps.base import Step, StepResult
from abench.steps.gated import GatedStep
from abench.steps.jumprelu import JumpReLUStep
from abench.steps.relu import ReLUStep
from abench.steps.routes import has_derived_steps
from abench.steps.topk import TopKStep
from abench.variants.batchabstopk_sae import BatchAbsTopKTrainingSAE

__all__ = ["AutogradStep", "Step", "StepResult", "make_step"]


def make_step(sae: TrainingSAE[Any], *, precision: Literal["float32", "bfloat16"] = "float32") -> Step:
    """The step with gradients written out; autograd for architectures and options without a derived one.

    `bfloat16` keeps weights, gradients and sums in float32. Of the TopK family the factors of the encoder's
    product are rounded to it, the one product that is dense; of others it is autograd under autocast, all
    products in bfloat16.
    """
    low = torch.bfloat16 if precision == "bfloat16" else None
    if (
        normalises_tokens(sae)
        or sae.dtype not in (torch.float32, torch.float64)
        or not has_derived_steps(sae.W_enc.device)
    ):
        return AutogradStep(sae, autocast=low)
    # The very class and no subclass of it: a subclass may compute something else.
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
