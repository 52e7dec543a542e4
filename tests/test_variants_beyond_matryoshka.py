"""Matryoshka, signed or not: nested prefixes, each with the loss of its own reconstruction."""

import pytest
import torch
from test_variants_beyond import step_input
from test_variants_operators import SHAPE, sae_and_inputs

from abench.errors import UserError
from abench.variants import SAEShape, get_variant


@pytest.mark.parametrize("name", ["matryoshka", "absmatryoshka"])
def test_every_prefix_has_the_loss_of_its_own_reconstruction(name: str) -> None:
    sae = get_variant(name, {"prefixes": [0.125, 0.25, 0.5]}).build(SHAPE, seed=3)
    with torch.no_grad():
        sae.W_dec *= torch.linspace(0.5, 2, SHAPE.width)[:, None]
        sae.b_dec += 0.1
    x = torch.randn(64, SHAPE.d_in, generator=torch.Generator().manual_seed(5))
    output = sae.training_forward_pass(step_input(x))
    assert sae.cfg.matryoshka_widths == [6, 12, 24, 48]
    prefixes = [f"inner_mse_loss_{width}" for width in (6, 12, 24)]
    assert list(output.losses) == ["mse_loss", "auxiliary_reconstruction_loss", *prefixes]
    names = {48: "mse_loss"} | dict(zip((6, 12, 24), prefixes, strict=True))
    for width, loss in names.items():
        first = output.feature_acts.detach().clone()
        first[:, width:] = 0
        error = (sae.decode(first) - x).square().sum(-1).mean().detach()
        assert output.losses[loss].item() == pytest.approx(float(error), rel=1e-5)
    assert float(output.loss.detach()) == pytest.approx(
        sum(float(loss.detach()) for loss in output.losses.values()), rel=1e-6
    )
    assert len({output.losses[loss].item() for loss in names.values()}) == 4


def test_absmatryoshka_revives_dead_latents_by_absolute_value() -> None:
    sae, x = sae_and_inputs("absmatryoshka")
    # One dead latent more than the auxiliary loss takes (half of d_in): by value the first would be left out.
    dead = torch.arange(SHAPE.width) < SHAPE.d_in // 2 + 1
    with torch.no_grad():
        sae.b_enc[0] = -50.0
    latents, pre = sae.encode_with_hidden_pre(x)
    losses = sae.calculate_aux_loss(step_input(x, dead=dead), latents, pre, sae.decode(latents))
    losses["auxiliary_reconstruction_loss"].backward()
    assert bool((pre[:, 0] < 0).all()) and float(sae.W_dec.grad[0].norm()) > 0


def test_default_prefixes_are_the_source_s() -> None:
    config = get_variant("matryoshka").training_config(SAEShape(d_in=64, width=1024, k=8))
    assert config.matryoshka_widths == [32, 96, 224, 480, 1024]
    with pytest.raises(UserError, match=r"of 16 latents are \[0, 2, 4, 8, 16\]: .* fewer prefixes or"):
        get_variant("absmatryoshka").build(SAEShape(d_in=8, width=16, k=2), seed=0)
