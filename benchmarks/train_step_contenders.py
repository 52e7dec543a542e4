"""One full training step (forward, backward, clipping, Adam, counting) of abench and of other libraries."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from abench.config import TrainingSpec
from abench.kernels.routes import codes_class
from abench.kernels.sparse_codes import SparseCodes
from abench.training.steps.topk import TopKStep
from abench.training.trainer import SAETrainer
from abench.variants import SAEShape, get_variant

from sae_lens.config import LoggingConfig, SAETrainerConfig  # isort: skip - abench makes it importable
from sae_lens.training.sae_trainer import SAETrainer as LensTrainer  # isort: skip

RATE = 1e-7
"""So small that hundreds of steps do not change the work of a step."""
FOREVER = 10**12
PENALISED = {"relu", "gated", "jumprelu"}


@dataclass(frozen=True)
class Problem:
    """The inputs that all contenders share."""

    variant: str
    shape: SAEShape
    batch: Tensor
    """Activations [tokens, d_in]."""
    dead: int = 0
    """Number of latents that count as dead."""
    sparse: bool = False
    """For penalised variants: whether encoder biases are as after training, with k active on average."""
    precision: Literal["float32", "bfloat16"] = "float32"

    def prepare(self, weights: Tensor, bias: Tensor, level: float = 0.0) -> None:
        """Make latents dead, or set biases so that k latents have a pre-activation above the level."""
        with torch.no_grad():
            weights[:, : self.dead] = 0
            if self.sparse:
                pre = self.batch @ weights
                count = self.shape.k * len(self.batch)
                bias -= float(pre.flatten().topk(count).values[-1]) - level


def ours(problem: Problem, codes: type[SparseCodes] | None = None) -> Callable[[], object]:
    """abench as installed, or with another implementation of the products of active latents."""
    spec = TrainingSpec(
        tokens=FOREVER,
        batch_size=len(problem.batch),
        buffer_tokens=len(problem.batch),
        learning_rate=RATE,
        dead_after_tokens=FOREVER,
        precision=problem.precision,
    )
    trainer = SAETrainer(_variant(problem), problem.shape, spec, seed=0)
    _prepare_sae(problem, trainer.sae)
    trainer.last_fired[: problem.dead] = -2 * FOREVER
    if codes is not None and isinstance(trainer.descend, TopKStep):
        trainer.descend.codes = codes
    return lambda: trainer.train_on(problem.batch)


def sae_lens(problem: Problem) -> Callable[[], object] | None:
    """sae-lens; its BatchTopK stands in for batch-level AbsTopK, which it lacks."""
    name = "batchtopk" if problem.variant == "batchabstopk" else problem.variant
    problem = replace(problem, variant=name)
    config = SAETrainerConfig(
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
        total_training_samples=FOREVER,
        device=problem.batch.device.type,
        autocast=problem.precision == "bfloat16",
        lr=RATE,
        lr_end=RATE,
        lr_scheduler_name="constant",
        lr_warm_up_steps=0,
        adam_beta1=0.9,
        adam_beta2=0.99,
        lr_decay_steps=0,
        n_restart_cycles=1,
        train_batch_size_samples=len(problem.batch),
        dead_feature_window=FOREVER,
        feature_sampling_window=FOREVER,
        logger=LoggingConfig(log_to_wandb=False),
    )
    sae = _variant(problem).build(problem.shape, seed=0)
    _prepare_sae(problem, sae)
    trainer = LensTrainer(cfg=config, sae=sae, data_provider=iter(()))
    trainer.n_forward_passes_since_fired[: problem.dead] = 2 * FOREVER
    return lambda: trainer.step(problem.batch)


def dictionary_learning(problem: Problem) -> Callable[[], object] | None:
    """dictionary_learning's trainers for TopK, BatchTopK and the ℓ1 penalty."""
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainers = {"topk": TopKTrainer, "batchtopk": BatchTopKTrainer, "relu": StandardTrainer}
    if problem.variant not in trainers or problem.sparse:
        return None
    shape = problem.shape
    device = problem.batch.device.type
    sizes: dict[str, Any] = {"activation_dim": shape.d_in, "dict_size": shape.width, "device": device}
    if problem.variant != "relu":
        sizes["k"] = shape.k
    trainer = trainers[problem.variant](steps=10**9, layer=0, lm_name="", lr=RATE, warmup_steps=1, **sizes)
    if problem.dead:
        trainer.num_tokens_since_fired[: problem.dead] = FOREVER
        with torch.no_grad():
            trainer.ae.encoder.weight[: problem.dead] = 0
    return lambda: trainer.update(1, problem.batch)


def sparsify(problem: Problem) -> Callable[[], object] | None:
    """sparsify's SparseCoder with its trainer's loop, but with torch's fused Adam."""
    from sparsify import SparseCoder, SparseCoderConfig

    if problem.variant != "topk":
        return None
    shape, batch = problem.shape, problem.batch
    config = SparseCoderConfig(num_latents=shape.width, k=shape.k, normalize_decoder=False)
    coder = SparseCoder(shape.d_in, config, device=batch.device)
    problem.prepare(coder.encoder.weight.data.T, coder.encoder.bias.data)
    optimiser = torch.optim.Adam(coder.parameters(), lr=RATE, fused=True)
    dead = torch.arange(shape.width, device=batch.device) < problem.dead
    last_fired = torch.zeros(shape.width, dtype=torch.int64, device=batch.device)

    def step() -> None:
        out = coder(batch, dead_mask=dead)
        (out.fvu + out.auxk_loss).backward()
        torch.nn.utils.clip_grad_norm_(coder.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        fired = torch.zeros(shape.width, dtype=torch.bool, device=batch.device)
        fired[out.latent_indices.flatten()] = True
        last_fired[fired] = 0

    return step


def floor(problem: Problem) -> Callable[[], object]:
    """The minimum for any exact step of the TopK family: the encoder's product and the sparse products.

    The active latents are given, so the search for them is not in it.
    """
    shape, batch = problem.shape, problem.batch
    sae = _variant(problem).build(shape, seed=0)
    optimiser = torch.optim.Adam(sae.parameters(), lr=RATE, fused=True)
    u = torch.empty(len(batch), shape.width, device=batch.device)
    for parameter in sae.parameters():
        parameter.grad = torch.zeros_like(parameter)
    columns = (batch @ sae.W_enc).topk(shape.k, dim=-1).indices
    codes = codes_class(batch.device).in_columns(u.zero_(), columns)

    @torch.no_grad()
    def step() -> None:
        torch.addmm(sae.b_enc, batch, sae.W_enc, out=u)
        values = u.gather(1, columns).view(-1)
        slope = codes.decode(values, sae.W_dec).sub_(batch)
        codes.add_outer(values, slope, sae.W_dec.grad, first=True)
        codes.add_inner(batch, codes.sample(slope, sae.W_dec), sae.W_enc.grad, first=True)
        torch.nn.utils.get_total_norm([p.grad for p in sae.parameters()])
        optimiser.step()

    return step


def _variant(problem: Problem) -> Any:
    options: dict[str, Any] = {"coefficient": 1e-3} if problem.variant in PENALISED else {}
    if problem.variant == "jumprelu" and problem.sparse:
        options["bandwidth"] = 0.05
    return get_variant(problem.variant, options)


def _prepare_sae(problem: Problem, sae: Any) -> None:
    bias = sae.b_gate if problem.variant == "gated" else sae.b_enc
    level = sae.cfg.jumprelu_init_threshold if problem.variant == "jumprelu" else 0.0
    problem.prepare(sae.W_enc.data, bias.data, level)
