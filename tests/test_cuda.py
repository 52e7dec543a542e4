"""On a GPU: the steps of the CPU, the same bits every time, and a run from end to end."""

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from command import Abench
from test_steps import CASES, COEFFICIENTS, TOP, activations, build, dead_mask
from test_steps_selection import adversarial
from torch import Tensor

from abench.config import TrainingSpec
from abench.kernels.selection import top_of_batch, top_of_rows
from abench.training.steps import AutogradStep, make_step
from abench.training.steps import penalised as penalised_module
from abench.training.trainer import SAETrainer, run_lockstep
from abench.variants import SAEShape, get_variant

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

GPU = torch.device("cuda")


def assert_steps_agree(
    name: str, options: Mapping[str, Any], config: Mapping[str, Any], dead: int, shift: float
) -> None:
    here = build(name, options, config, shift=shift)
    there = copy.deepcopy(here).to(GPU)
    there.cfg.device = "cuda"
    step, reference = make_step(there), make_step(here)
    assert not isinstance(step, AutogradStep)
    for seed in (9, 2):  # whatever the first leaves behind must not matter
        expected = reference(activations(seed), COEFFICIENTS[name], dead_mask(dead))
        result = step(activations(seed).to(GPU), COEFFICIENTS[name], dead_mask(dead).to(GPU))
    assert result.loss == pytest.approx(expected.loss, rel=1e-9)
    assert result.mse == pytest.approx(expected.mse, rel=1e-9)
    assert result.l0 == expected.l0
    assert torch.equal(result.fired.cpu(), expected.fired)
    theirs = dict(here.named_parameters())
    for parameter_name, parameter in there.named_parameters():
        exact = parameter.dtype == torch.float64  # JumpReLU's threshold is in float32
        torch.testing.assert_close(
            parameter.grad.cpu(),
            theirs[parameter_name].grad,
            rtol=1e-8 if exact else 1e-4,
            atol=1e-10 if exact else 1e-5,
        )


@pytest.mark.parametrize(("name", "options", "config"), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("dead", [0, 20])
def test_the_step_is_that_of_the_cpu(
    name: str, options: dict[str, Any], config: dict[str, Any], dead: int
) -> None:
    assert_steps_agree(name, options, config, dead, shift=0.0)


@pytest.mark.parametrize(("name", "options", "config"), CASES[10:], ids=lambda value: str(value))
def test_so_is_the_sparse_step_of_penalised_variants(
    name: str, options: dict[str, Any], config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(penalised_module, "DenseCodes", None)
    assert_steps_agree(name, options, config, dead=5, shift=3.5)


@pytest.mark.parametrize("case", adversarial())
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_active_entries_are_the_largest(case: str, signed: bool, k: int) -> None:
    u = adversarial()[case]
    size = u.abs() if signed else u
    columns = top_of_rows(u.to(GPU), k, signed=signed).cpu()
    found = size.gather(1, columns).sort(dim=1).values
    assert torch.equal(found, size.topk(k, dim=1).values.sort(dim=1).values)
    at = top_of_batch(u.to(GPU), k * len(u), signed=signed).cpu()
    assert at.tolist() == sorted(set(at.tolist()))
    expected = size.flatten().topk(k * len(u)).values
    assert torch.equal(size.flatten()[at].sort().values, expected[expected > 0].sort().values)


TRAINED = [*TOP, "relu", "gated", "jumprelu"]
SHAPE = SAEShape(d_in=64, width=512, k=8, device="cuda")


def curve(variant: str, *, device: str = "cuda", precision: str = "float32") -> tuple[list[Tensor], Any]:
    """Weights and training curve after 60 steps on mixtures of a few directions."""
    options = {} if variant in TOP else {"coefficient": 1e-2}
    spec = TrainingSpec(tokens=60 * 256, batch_size=256, buffer_tokens=256, learning_rate=1e-3)
    spec = spec.model_copy(update={"precision": precision, "dead_after_tokens": 5_000})
    shape = SAEShape(SHAPE.d_in, SHAPE.width, SHAPE.k, device)
    trainer = SAETrainer(get_variant(variant, options), shape, spec, seed=0)
    generator = torch.Generator().manual_seed(3)
    directions = torch.randn(100, SHAPE.d_in, generator=generator)
    batches = [torch.randn(256, 100, generator=generator).pow(3) @ directions / 40 for _ in range(60)]

    def fail(trainer: SAETrainer, error: Exception) -> None:
        raise error

    run_lockstep(
        [trainer], (b.to(device) for b in batches), start=0, on_step=lambda _: None, on_diverged=fail
    )
    return [p.detach().cpu() for p in trainer.sae.parameters()], trainer.curve


@pytest.mark.parametrize("variant", TRAINED)
def test_training_gives_the_same_bits_every_time_and_nearly_those_of_the_cpu(variant: str) -> None:
    weights, points = curve(variant)
    again, _ = curve(variant)
    for a, b in zip(weights, again, strict=True):
        assert torch.equal(a, b)
    _, expected = curve(variant, device="cpu")
    for ours, theirs in zip(points[:20], expected[:20], strict=True):
        assert ours.mse == pytest.approx(theirs.mse, rel=1e-4)
    assert points[-1].mse == pytest.approx(expected[-1].mse, rel=1e-2)
    assert points[-1].dead == pytest.approx(expected[-1].dead, abs=3)


@pytest.mark.parametrize("variant", TRAINED)
def test_bfloat16_learns_nearly_the_same(variant: str) -> None:
    weights, low = curve(variant, precision="bfloat16")
    _, exact = curve(variant)
    assert {w.dtype for w in weights} == {torch.float32}
    assert low[-1].mse == pytest.approx(exact[-1].mse, rel=0.05)
    assert low[-1].mse != exact[-1].mse


def test_a_run_on_a_gpu(abench: Abench, tmp_path: Path) -> None:
    """Fetches nothing: the bundled model, small SAEs, the reconstruction task, on both devices."""
    frames = {}
    for device in ("cpu", "cuda"):
        sizes = ["--variants", "abstopk,topk,jumprelu", "--width", "256", "--k", "8", "--seeds", "1"]
        where = ["--device", device, "--results", tmp_path / device]
        ran = abench("run", *sizes, "--tokens", "204800", "--tasks", "core", *map(str, where))
        assert ran.code == 0, ran.err
        (file,) = (tmp_path / device / "reports").glob("*/data.csv")
        frames[device] = pd.read_csv(file)
    cpu, gpu = (frames[d].set_index(["variant", "view", "metric"]).value for d in ("cpu", "cuda"))
    assert set(cpu.index) == set(gpu.index)
    for key, value in cpu.items():
        if key[2] in {"nmse", "ce_sae", "l0"}:
            assert math.isclose(value, gpu[key], rel_tol=0.05), (key, value, gpu[key])
