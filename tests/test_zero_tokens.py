"""Tokens of norm 0, and activations without spread: finite in training, encoding and decoding."""

from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from signed import random_sae
from torch import Tensor

import abench
from abench import UserError, from_residual_units, latent_codes, reconstruct, residual_codes, sparse_codes
from abench.conformance.rewritten import InOtherUnits, normalising
from abench.variants import SAEShape, get_variant, load_sae, variant_names
from abench.variants.topk import TopK

D_IN, ZERO = 16, 3
WAYS = ["none", "layer_norm", "constant_norm_rescale"]


def activations(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def rescaling(tmp_path: Path) -> Path:
    """An SAE of sae-lens's own that rescales tokens, in a folder."""
    sae = random_sae("topk", d_in=D_IN, width=64, k=4)
    sae.cfg.normalize_activations = "constant_norm_rescale"
    sae.save_inference_model(tmp_path)
    return tmp_path


@torch.no_grad()
def test_a_token_of_norm_zero_is_encoded_as_it_is_and_decoded_to_zero(rescaling: Path) -> None:
    ours, theirs = load_sae(rescaling), sae_lens.SAE.load_from_disk(rescaling)
    x = activations(40)
    x[ZERO] = 0
    others = torch.arange(len(x)) != ZERO
    codes, lost = ours.encode(x), theirs.encode(x)
    assert not bool(lost[ZERO].isfinite().all()), "sae-lens mends it by itself: defined_at_zero can go"
    assert torch.equal(codes[others], lost[others])
    decoded, theirs_decoded = ours.decode(codes), theirs.decode(lost)
    assert torch.equal(decoded[others], theirs_decoded[others])
    assert bool(codes.isfinite().all())
    assert not decoded[ZERO].any()
    plain = normalising(ours, "none")
    assert torch.equal(codes[ZERO], plain.encode(x)[ZERO])


@torch.no_grad()
def test_a_norm_too_small_to_divide_by_counts_as_zero(rescaling: Path) -> None:
    sae, x = load_sae(rescaling), torch.full((1, D_IN), 1e-40)
    assert bool(sae.encode(x).isfinite().all())
    assert not sae.decode(sae.encode(x)).any()


@torch.no_grad()
def test_what_is_not_a_number_stays_none(rescaling: Path) -> None:
    sae, x = load_sae(rescaling), torch.full((1, D_IN), torch.nan)
    assert bool(sae.decode(sae.encode(x)).isnan().all())


@torch.no_grad()
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variant", ["relu", "topk", "abstopk"])
def test_a_token_without_spread_changes_no_other(variant: str, way: str) -> None:
    sae = normalising(random_sae(variant, d_in=D_IN, width=64, k=4), way)
    x = activations(40)
    with_zero = x.clone()
    with_zero[ZERO] = 0
    others = torch.arange(len(x)) != ZERO
    functions = {
        "residual_codes": residual_codes,
        "latent_codes": lambda sae, x: latent_codes(sae, x, 5),
        "sparse_codes": lambda sae, x: torch.from_numpy(sparse_codes(sae, x).toarray()),
        "reconstruct": lambda sae, x: reconstruct(sae, x).x_hat,
        "from_residual_units": lambda sae, x: from_residual_units(sae, x, residual_codes(sae, x)),
        "in other units": lambda sae, x: (lambda s: s.decode(s.encode(x)))(InOtherUnits(sae)),
    }
    for name, function in functions.items():
        before, after = function(sae, x), function(sae, with_zero)
        assert bool(after.isfinite().all()), name
        assert torch.equal(before[others], after[others]), name
    if way != "none":
        assert not residual_codes(sae, with_zero)[ZERO].any()


@pytest.mark.parametrize("normalisation", ["scale", "layer_norm", "none"])
def test_training_over_zeros_stays_finite(normalisation: str) -> None:
    """Single zeros everywhere, and once a whole batch of them, late enough to be looked at for divergence."""
    x = activations(110 * 64)
    x[::7] = 0
    x[64 * 104 : 64 * 105] = 0
    options: dict[str, Any] = {"k": [4], "width": 32, "steps": 108, "batch_size": 64}
    for result in abench.train([x], variants=variant_names(), normalisation=normalisation, **options):
        assert result.failure is None, result.variant
        assert bool(result.sae.decode(result.sae.encode(x)).isfinite().all())


@pytest.mark.parametrize("width", [1, D_IN])
def test_standardised_tokens_without_spread_are_a_sentence(width: int) -> None:
    """Of a single dimension there is no spread at all, and sae-lens would divide by nothing."""
    constant = [activations(400)[:, :1].expand(-1, width).clone()]
    options: dict[str, Any] = {"variants": ["topk"], "k": [1], "width": 8, "steps": 5, "batch_size": 64}
    with pytest.raises(UserError, match=rf"same value in all of its {width} dimensions: .* layer_norm"):
        abench.train(constant, normalisation="layer_norm", **options)
    (result,) = abench.train(constant, **options)
    assert result.failure is None


class Rescaled(TopK):
    """A variant that leaves the normalisation of its input to sae-lens."""

    def training_config(self, shape: SAEShape) -> Any:
        config = super().training_config(shape)
        config.normalize_activations = "constant_norm_rescale"
        return config


def test_a_variant_that_normalises_by_itself_is_refused() -> None:
    """What is saved would be another function: only the training's normalisation is undone there."""
    shape = SAEShape(D_IN, 32, 4)
    with pytest.raises(ValueError, match=r"itself \(constant_norm_rescale\): leave that to the option"):
        Rescaled().build(shape, seed=0)
    get_variant("topk").build(shape, seed=0)
