"""A few seconds of measuring on the device at hand, once per machine and kind of work.

Measured are matrix products, memory bandwidth, training steps (of the run's own sizes where they are short
enough) and, if the model's weights are on this machine, real passes of the model. Every measurement is cached
in abench's cache, so a second price measures nothing.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from abench.config import TrainingSpec
from abench.kept import FolderKept
from abench.lm.model_cache import cache_root
from abench.pricing.operations import SAESizes, of_step
from abench.pricing.rates import PassRates
from abench.storage.faults import StorageError
from abench.variants import Variant
from abench.version import __version__

VERSION = 3
"""Raise it when a measurement is made in another way."""
STEP_SECONDS = 0.7
"""A training step that takes longer is measured at smaller sizes and scaled."""
_REPETITIONS = 3
_ADAM_BYTES = 16
"""Bytes per weight of an SAE in training: weight, gradient and two moments."""


@dataclass(frozen=True)
class Bench:
    """The device to measure on, and the cache of what was measured before."""

    device: str
    kept: FolderKept
    deadline: float
    """When to stop measuring, in `time.monotonic`."""
    clock: Callable[[], float] = time.perf_counter
    """`time.process_time` measures CPU seconds, which other processes on the machine hardly change."""

    @classmethod
    def on(cls, device: str, seconds: float, clock: Callable[[], float] = time.perf_counter) -> "Bench":
        kept = FolderKept(cache_root() / "calibration")
        return cls(device, kept, time.monotonic() + seconds, clock)

    @property
    def name(self) -> str:
        """The device's name, for people."""
        return device_name(self.device)

    def value(self, what: dict[str, Any], measure: Callable[[], Any], *, always: bool = True) -> Any:
        """A cached measurement, or a new one; None if there is no time left for one that is not `always`."""
        spec = {"calibration": VERSION, "abench": __version__, "machine": _machine(self.device), **what}
        if self.clock is not time.perf_counter:
            spec["clock"] = self.clock.__name__
        found = self.kept.get(spec)
        if found is None and (always or time.monotonic() < self.deadline):
            found = measure()
            with suppress(StorageError):  # the next price measures again
                self.kept.put(spec, found)
        return found


def device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    return f"{_processor()}, {torch.get_num_threads()} threads"


def products(bench: Bench, dtype: str, size: int) -> float:
    """Operations per second of products of [1024 or more, size] with [size, 4 size] matrices."""
    import torch

    size = min(size, 1024 if bench.device == "cpu" else 8192)
    rows = 1024 if bench.device == "cpu" else 8192

    def measure() -> float:
        kind = getattr(torch, dtype)
        a = torch.randn(rows, size, device=bench.device).to(kind)
        b = torch.randn(size, 4 * size, device=bench.device).to(kind)
        return 2.0 * rows * size * 4 * size / fastest(lambda: a @ b, bench)

    return float(bench.value({"what": "products", "dtype": dtype, "size": size}, measure))


def bandwidth(bench: Bench) -> float:
    """Bytes per second that an addition in place reads and writes."""
    import torch

    def measure() -> float:
        size = 1 << (24 if bench.device == "cpu" else 27)
        x, y = (torch.ones(size, device=bench.device) for _ in range(2))
        return 12.0 * size / fastest(lambda: x.add_(y), bench)

    return float(bench.value({"what": "bandwidth"}, measure))


def small_step(bench: Bench, d_model: int) -> float:
    """Seconds of a step of AdamW on a linear probe with 16 texts, on the CPU."""
    import torch

    def measure() -> float:
        weight = torch.zeros(4, d_model)
        optimizer = torch.optim.AdamW([weight], lr=1e-3)
        x = torch.randn(4, 16, d_model)

        def step() -> None:
            error = torch.einsum("pbd,pd->pb", x, weight).sigmoid()
            weight.grad = torch.einsum("pb,pbd->pd", error, x)
            optimizer.step()

        def steps() -> None:
            for _ in range(50):
                step()

        return fastest(steps, bench) / 50

    return float(bench.value({"what": "small step", "size": d_model}, measure))


def training_step(
    bench: Bench, variant: Variant, sae: SAESizes, spec: TrainingSpec, speed: float, dense_share: float
) -> tuple[SAESizes, int, float] | None:
    """The sizes, batch size and seconds of a measured training step; None if there is no time left.

    For a variant with a penalty, the mean of a step with most latents active and one with k active, weighted
    by `dense_share`.
    """
    sizes, batch = _affordable(sae, spec.batch_size, speed, bench.device)
    small = spec.model_copy(
        update={"batch_size": batch, "tokens": batch * spec.steps, "buffer_tokens": batch * spec.steps}
    )

    def measure() -> float:
        return _step(variant, sizes, small, bench, dense_share)

    what = {
        "what": "training step",
        "variant": variant.recorded(),
        "sizes": asdict(sizes),
        "batch": batch,
        "dense share": round(dense_share, 3),
        "training": small.model_dump(mode="json", include={"precision", "gradient_clip", "unit_decoder"}),
    }
    found = bench.value(what, measure, always=False)
    return None if found is None else (sizes, batch, float(found))


def encoding(bench: Bench, sae: SAESizes, speed: float, bytes_per_second: float) -> float:
    """Seconds of encoding and pooling with a TopK SAE, relative to those of `rates.encode_estimate`."""
    import torch

    from abench.latents.codes import residual_csr
    from abench.pricing.rates import encode_estimate
    from abench.variants import SAEShape, get_variant

    sizes, _ = _affordable(sae, 2048, speed, bench.device)
    rows = 2048

    def measure() -> float:
        shape = SAEShape(sizes.d_in, sizes.width, sizes.k, bench.device)
        own = get_variant("topk").build(shape, 0).eval().requires_grad_(False)
        x = torch.randn(rows, sizes.d_in, generator=torch.Generator().manual_seed(0)).to(bench.device)

        def encode() -> None:
            codes = residual_csr(own, x)
            codes.maximum(0), (-codes).maximum(0)

        return fastest(encode, bench)

    taken = float(bench.value({"what": "encoding", "sizes": asdict(sizes)}, measure))
    return taken / encode_estimate(rows, sizes, speed, bytes_per_second)


def _affordable(sae: SAESizes, batch: int, speed: float, device: str) -> tuple[SAESizes, int]:
    """The sizes themselves if a step is short and fits the memory, else smaller ones of the same shape."""
    width, room = sae.width, _room(device)
    least = min(sae.width, max(4 * sae.k, 1024))

    def too_long() -> bool:
        return of_step(SAESizes(sae.d_in, width, sae.k), batch, dense_share=0.3) / speed > STEP_SECONDS

    def too_large() -> bool:
        return 2 * sae.d_in * width * _ADAM_BYTES + 8 * batch * width > room

    while batch > 256 and too_long():
        batch = max(256, batch // 2)
    while width > least and (too_long() or too_large()):
        width = max(least, width // 2)
    return SAESizes(sae.d_in, width, sae.k), batch


def _room(device: str) -> float:
    """A third of the free memory of a device, in bytes."""
    import torch

    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(device)[0]) / 3
    from abench.runs.machine_memory import main_bytes

    return (main_bytes() or 1 << 32) / 6


def _step(variant: Variant, sae: SAESizes, spec: TrainingSpec, bench: Bench, dense_share: float) -> float:
    import torch

    from abench.training.trainer import SAETrainer
    from abench.variants import L0Controller, SAEShape

    device = bench.device
    shape = SAEShape(sae.d_in, sae.width, sae.k, device)
    batch = torch.randn(spec.batch_size, sae.d_in, generator=torch.Generator().manual_seed(0)).to(device)
    trainer = SAETrainer(variant, shape, spec, seed=0)
    # A learning rate that changes nothing, so that each step has as many active latents as the first.
    for group in trainer.optimiser.param_groups:
        group["lr"] = 0.0
    trainer.spec = spec.model_copy(update={"learning_rate": 1e-30})
    first = fastest(lambda: trainer.train_on(batch), bench)
    if L0Controller.for_variant(variant, shape) is None or dense_share >= 1:
        return first
    _silence(trainer.sae, batch, sae)
    return dense_share * first + (1 - dense_share) * fastest(lambda: trainer.train_on(batch), bench)


def _silence(sae: Any, batch: Any, sizes: SAESizes) -> None:
    """Lower the encoder's biases so that k latents are active per token, as later in training."""
    import torch

    with torch.no_grad():
        pre = (batch[:64] @ sae.W_enc).flatten()
        least = pre.topk(max(1, len(batch[:64]) * sizes.k)).values[-1]
        for name in ("b_enc", "b_gate"):
            bias = getattr(sae, name, None)
            if bias is not None:
                bias -= least


def passes(
    bench: Bench, opened: Callable[[], Any], model: Mapping[str, Any], layer: int, *, replies: bool
) -> PassRates:
    """Seconds per token of passes to and from the residual stream after a block, on the model's weights.

    `opened` opens the model, which a cached measurement does not need; `model` identifies it (commit, dtype,
    context).
    """
    what = {"model": dict(model), "block": layer}
    found = bench.value(
        {"what": "passes", **what},
        lambda: _pass_seconds(opened(), layer, int(model["context"]), bench),
    )
    written = {"what": "replies", "model": dict(model)}
    generated = bench.value(written, lambda: _replies(opened(), bench)) if replies else 0.0
    return PassRates(**found, generated=float(generated))


def _pass_seconds(lm: Any, layer: int, context: int, bench: Bench) -> dict[str, float]:
    import torch

    from abench.lm.tokens import tokens_at_once

    def tokens_of(rows: int) -> Any:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(4, lm.vocabulary, (max(1, rows), context), generator=generator)

    after = f"blocks.{layer}.hook_resid_post"
    tokens = tokens_of(tokens_at_once(lm) // context)
    lower = fastest(lambda: lm.residual(tokens, after), bench) / tokens.numel()
    few = tokens_of(min(len(tokens), lm.rows_with_logits(context)))
    residual = lm.residual(few, after)
    last = torch.full((len(few),), context - 1)
    with torch.no_grad():
        narrow = fastest(lambda: lm.next_logits_from(residual, few, last, after), bench)
    counted = (few > 4).to(lm.device)

    def predict() -> None:
        # As tasks do: chosen predictions in float32, their normalisation, and a comparison with others.
        logits = lm.logits_from(residual.clone(), few, after)[counted].float()
        probabilities = (logits - logits.logsumexp(-1, keepdim=True)).exp_()
        torch.einsum("nv,nv->n", probabilities, logits - probabilities)

    wide = fastest(predict, bench)
    upper = narrow / few.numel()
    return {"lower": lower, "upper": upper, "logits": max(wide - narrow, 0.0) / few.numel()}


def _replies(lm: Any, bench: Bench) -> float:
    """Seconds per generated token of 32 replies."""
    import torch

    rows = torch.randint(4, lm.vocabulary, (32, 16), generator=torch.Generator().manual_seed(0))
    settings = {"do_sample": False, "use_cache": True, "pad_token_id": 0}

    def write(number: int) -> None:
        with torch.inference_mode():
            lm.model.generate(
                input_ids=rows.to(lm.device), min_new_tokens=number, max_new_tokens=number, **settings
            )

    short, long = (_once(partial(write, number), bench) for number in (2, 10))
    return max(long - short, long / 20) / 8 / len(rows)


def fastest(work: Callable[[], object], bench: Bench) -> float:
    """Seconds of the fastest of a few calls, after one that is not counted if it was short."""
    first = _once(work, bench)
    if first > STEP_SECONDS:
        return first
    return min(_once(work, bench) for _ in range(_REPETITIONS))


def _once(work: Callable[[], object], bench: Bench) -> float:
    wait(bench.device)
    started = bench.clock()
    work()
    wait(bench.device)
    return bench.clock() - started


def wait(device: str) -> None:
    """Wait until a GPU has done all its work."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


@lru_cache(maxsize=8)
def _machine(device: str) -> dict[str, Any]:
    import torch

    return {
        "device": device_name(device),
        "host": platform.node(),
        "cores": len(_cores()),
        "torch": torch.__version__,
    }


def _cores() -> Sequence[int]:
    affinity = getattr(os, "sched_getaffinity", None)
    return list(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or "CPU"
