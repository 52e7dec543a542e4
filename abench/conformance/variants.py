"""Check the rules that every variant must satisfy, by training a small SAE: `abench list variants --check`.

The SAE is trained on sparse sums of fixed directions, saved and loaded. What is saved must be the function
that was trained, flips of sign and the order of latents must not matter, L0 must be k, and the gradient must
be the derivative of the loss (gradients.py).
"""

import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from abench.config import TrainingSpec
from abench.conformance.check import CheckResult, Finding
from abench.conformance.gradients import wrong_gradients
from abench.training.trainer import Diverged, SAETrainer
from abench.variants import SAEShape, Variant, load_sae, save_sae
from abench.variants.registry import FoundVariant

SHAPE = SAEShape(d_in=24, width=96, k=8)
_SCALE = 3.5
"""Factor of the inputs during training, which saving must fold into the weights."""
_BATCH = 256
_STEPS, _STEPS_OF_A_PENALTY = 100, 1000
"""An adapted penalty takes some 1,000 steps until L0 is k."""
_L0_TOLERANCE = 0.15
_CLOSE = 1e-4
"""Largest relative difference between functions that must be equal; they are computed in float32."""


def check_variants(found: Sequence[FoundVariant]) -> Iterator[CheckResult]:
    """Check each variant that was found, with its default options."""
    for each in found:
        if each.value is None:
            rule = "declaration" if each.problems else "import"
            yield CheckResult(each.name, (Finding(rule, each.summary),))
            continue
        try:
            variant = each.value()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            problem = f"its options have no valid defaults: {where}: {first['msg']}"
            yield CheckResult(each.name, (Finding("declaration", problem),))
            continue
        yield check_variant(variant)


def check_variant(variant: Variant) -> CheckResult:
    """Check every rule on a variant with its options."""
    findings: list[Finding] = []
    try:
        with torch.random.fork_rng(devices=[]):
            for finding in _findings(variant):
                findings.append(finding)  # noqa: PERF402 - keeps the findings before an error
    except Diverged as error:
        findings.append(Finding("trains", str(error)))
    except Exception as error:
        # Any exception that a variant raises is a finding of the check.
        findings.append(Finding("runs", f"{type(error).__name__}: {error}"))
    return CheckResult(variant.name, tuple(findings))


def _findings(variant: Variant) -> Iterator[Finding]:
    documented = (type(variant).__doc__ or "").strip()
    yield Finding("declaration", None if documented else "it has no docstring")
    before = torch.random.get_rng_state()
    yield Finding("the seed determines the weights", _seeded(variant))
    trained = _trained(variant)
    moved = not torch.equal(torch.random.get_rng_state(), before)
    yield Finding("no global random numbers", "it draws from the global random state" if moved else None)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_sae(trained, Path(folder), scale=_SCALE, metadata={})
        loaded = load_sae(Path(folder))
        x = samples(4000, seed=2)
        yield Finding("saving changes nothing", _saved(trained, loaded, x))
        yield Finding("signs are as declared", _signs(variant, loaded, x))
        yield Finding("flipping the sign of latents changes nothing", _flips(variant, loaded, x))
        yield Finding("the order of latents changes nothing", _order(loaded, x))
        yield Finding("L0 is k", _l0(loaded))
    yield Finding("the gradient is the derivative of the loss", _gradient(variant))


def samples(n: int, seed: int) -> Tensor:
    """Activations [n, d_in]: sparse sums of fixed directions; times `_SCALE`, their norm is about √d_in."""
    fixed, fresh = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(60, SHAPE.d_in, generator=fixed), dim=-1)
    active = torch.rand(n, 60, generator=fresh) < 0.15
    x = (active * torch.randn(n, 60, generator=fresh)) @ directions
    return (x + 0.05 * torch.randn(n, SHAPE.d_in, generator=fresh)) * (5 / 3 / _SCALE)


def _trained(variant: Variant) -> Any:
    steps = _STEPS if variant.penalty is None else _STEPS_OF_A_PENALTY
    spec = TrainingSpec(
        tokens=steps * _BATCH, batch_size=_BATCH, learning_rate=3e-3, dead_after_tokens=20 * _BATCH
    )
    trainer = SAETrainer(variant, SHAPE, spec, seed=1)
    with torch.enable_grad():
        for step in range(steps):
            trainer.train_on(samples(_BATCH, seed=100 + step) * _SCALE)
    trainer.finish(samples(4000, seed=2) * _SCALE)
    return trainer.sae


def _seeded(variant: Variant) -> str | None:
    first, again = (variant.build(SHAPE, 3).state_dict() for _ in "ab")
    different = [name for name in first if not torch.equal(first[name], again[name])]
    return f"two SAEs of one seed differ in {different[0]}" if different else None


def _saved(trained: Any, loaded: Any, x: Tensor) -> str | None:
    """Compare the saved SAE with the trained one on the activations that a threshold is calibrated on.

    All are one batch, so that batch-level selection keeps the latents that exceed the threshold.
    """
    codes, saved = trained.encode(x * _SCALE), loaded.encode(x)
    for name, values in (("codes", saved), ("reconstructions", loaded.decode(saved))):
        if not bool(values.isfinite().all()):
            return f"{name} of the saved SAE are not finite"
    different = int(((codes != 0) != (saved != 0)).sum())
    if different > _CLOSE * max(1, int((saved != 0).sum())):
        return f"{different:,} of {saved.numel():,} codes are zero in only one of the trained and saved SAE"
    error = _difference(loaded.decode(saved), trained.decode(codes) / _SCALE)
    return f"reconstructions differ by {error:.2g} of their norm" if error > _CLOSE else None


def _signs(variant: Variant, sae: Any, x: Tensor) -> str | None:
    negative = bool((sae.encode(x) < 0).any())
    return "it is declared non-negative, but codes are negative" if negative and not variant.signed else None


def _flips(variant: Variant, sae: Any, x: Tensor) -> str | None:
    if not variant.signed:
        return None
    codes = sae.encode(x)
    often = (codes != 0).sum(0).topk(SHAPE.width // 4).indices
    other = deepcopy(sae)
    variant.flip(other, often)
    mirrored = other.encode(x)
    mirrored[:, often] *= -1
    error = _difference(mirrored, codes)
    if variant.flippable:
        return f"codes differ by {error:.2g} of their norm" if error > _CLOSE else None
    return "it is declared not flippable, but flips change nothing" if error <= _CLOSE else None


def _order(sae: Any, x: Tensor) -> str | None:
    order = torch.randperm(SHAPE.width, generator=torch.Generator().manual_seed(0))
    other = deepcopy(sae)
    for values in (*other.parameters(), *other.buffers()):
        for axis in [axis for axis, size in enumerate(values.shape) if size == SHAPE.width]:
            values.copy_(values.index_select(axis, order))
    error = _difference(other.encode(x), sae.encode(x)[:, order])
    return f"codes differ by {error:.2g} of their norm" if error > _CLOSE else None


def _l0(sae: Any) -> str | None:
    active = (sae.encode(samples(4000, seed=5)) != 0).sum(-1).double()
    mean = float(active.mean())
    if abs(mean - SHAPE.k) <= _L0_TOLERANCE * SHAPE.k:
        return None
    return f"on unseen activations {mean:.3g} latents are active on average, but k is {SHAPE.k}"


def _gradient(variant: Variant) -> str | None:
    batches = [samples(64, seed=number).double() * _SCALE for number in range(3)]
    wrong = wrong_gradients(variant, SHAPE, batches)
    return f"that of {', '.join(wrong)} is not" if wrong else None


def _difference(actual: Tensor, expected: Tensor) -> float:
    """The norm of the difference of two tensors, relative to that of the second."""
    return float((actual - expected).norm() / expected.norm().clamp(min=1e-12))
