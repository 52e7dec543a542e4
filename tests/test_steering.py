"""Interventions against the whole SAE written out, their identities, and that none of them leaves a trace."""

from typing import Any

import pytest
import torch
from signed import flipped, permuted, random_sae
from steering_saes import HOW, VARIANTS, exported, seen
from torch import Tensor

from abench import (
    AblateDirection,
    AblateLatents,
    AddDirection,
    ClampLatent,
    Intervention,
    LanguageModel,
    ScaleLatent,
    SplitSAE,
    UserError,
    from_residual_units,
    residual_codes,
    steered,
)
from abench.tinyworld import MODEL_DIR, World

SITE = "blocks.2.hook_resid_post"
DIRECTION = torch.randn(128, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@pytest.fixture(scope="module")
def tokens(lm: LanguageModel) -> Tensor:
    ids = lm.token_ids([document.text for document in World().reviews("test", 12)])
    return torch.tensor([[lm.bos_id, *row[:23]] for row in ids if len(row) >= 23][:6])


def logits(lm: LanguageModel, tokens: Tensor, *interventions: Intervention | None) -> Tensor:
    from contextlib import ExitStack

    with ExitStack() as stack:
        for intervention in interventions:
            stack.enter_context(steered(lm, SITE, intervention))
        return lm.logits(tokens)


def written_out(lm: LanguageModel, tokens: Tensor, sae: Any, latent: int, value: Any, error: bool) -> Tensor:
    """Logits after z[latent] = value(z[latent]), from encode, decode and resuming the model at the site.

    z is in units of the residual stream.
    """
    h = lm.residual(tokens, SITE)
    x = h.reshape(-1, h.shape[-1])
    residue = x - sae.decode(sae.encode(x)) if error else torch.zeros(())
    codes = residual_codes(sae, x).clone()
    codes[:, latent] = value(codes[:, latent])
    decoded = sae.decode(from_residual_units(sae, x, codes))
    return lm.logits_from((decoded + residue).reshape(h.shape), tokens, SITE)


def alike(ours: Tensor, theirs: Tensor, plain: Tensor) -> None:
    """Equal, and something that had to be computed."""
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3)
    assert (ours - plain).abs().max() > 0.05


@pytest.mark.parametrize("keep_error", [True, False])
@pytest.mark.parametrize("value", [-40.0, 40.0])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_clamp_is_encoding_setting_and_decoding(
    variant: str, value: float, keep_error: bool, lm: LanguageModel, tokens: Tensor
) -> None:
    sae = exported(variant)
    ours = logits(lm, tokens, ClampLatent(sae, 9, value, keep_error=keep_error))
    theirs = written_out(lm, tokens, sae, 9, lambda _: value, keep_error)
    alike(ours, theirs, lm.logits(tokens))


@pytest.mark.parametrize("keep_error", [True, False])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("variant", ["topk", "abstopk", "jumprelu"])
def test_a_clamp_however_the_sae_is_seen(
    variant: str, how: str, keep_error: bool, lm: LanguageModel, tokens: Tensor
) -> None:
    sae = seen(variant, how)
    for latent in (9, sae.cfg.d_sae - 9):
        ours = logits(lm, tokens, ClampLatent(sae, latent, 40.0, keep_error=keep_error))
        theirs = written_out(lm, tokens, sae, latent, lambda _: 40.0, keep_error)
        alike(ours, theirs, lm.logits(tokens))


def most_active(lm: LanguageModel, tokens: Tensor, sae: Any) -> list[int]:
    codes = sae.encode(lm.residual(tokens, SITE).reshape(-1, 128))
    ranked: list[int] = codes.abs().mean(0).topk(3).indices.tolist()
    return ranked


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("variant", ["topk", "abstopk", "gated"])
def test_scaling_and_ablating(variant: str, how: str, lm: LanguageModel, tokens: Tensor) -> None:
    sae, plain = seen(variant, how), lm.logits(tokens)
    first, *others = most_active(lm, tokens, sae)
    ours = logits(lm, tokens, ScaleLatent(sae, first, -2.5))
    alike(ours, written_out(lm, tokens, sae, first, lambda z: -2.5 * z, True), plain)
    alike(
        logits(lm, tokens, AblateLatents(sae, [first])),
        written_out(lm, tokens, sae, first, torch.zeros_like, True),
        plain,
    )
    several = logits(lm, tokens, AblateLatents(sae, [first, *others, first]))
    theirs = written_out(lm, tokens, sae, [first, *others], torch.zeros_like, True)  # type: ignore[arg-type]
    alike(several, theirs, plain)


def test_directions(lm: LanguageModel, tokens: Tensor) -> None:
    h, plain = lm.residual(tokens, SITE), lm.logits(tokens)
    unit = DIRECTION / DIRECTION.norm()
    added = lm.logits_from(h + 30 * unit, tokens, SITE)
    alike(logits(lm, tokens, AddDirection(DIRECTION, 30)), added, plain)
    ablated = lm.logits_from(h - (h * unit).sum(-1, keepdim=True) * unit, tokens, SITE)
    alike(logits(lm, tokens, AblateDirection(7 * DIRECTION)), ablated, plain)
    with steered(lm, SITE, AblateDirection(DIRECTION)):
        assert (lm.residual(tokens, SITE) @ unit).abs().max() < 1e-4


def test_what_changes_nothing_changes_no_bit(lm: LanguageModel, tokens: Tensor) -> None:
    sae, plain = exported("abstopk"), lm.logits(tokens)
    for nothing in (
        None,
        AddDirection(DIRECTION, 0),
        ScaleLatent(sae, most_active(lm, tokens, sae)[0], 1),
        ScaleLatent(exported("multistep"), 3, 1.0),
        AblateLatents(sae, []),
    ):
        assert torch.equal(logits(lm, tokens, nothing), plain)
        # −0 equals 0, but not bit by bit.
        assert nothing is None or nothing(torch.full((1, 1, 128), -0.0)).signbit().all()


def test_no_trace_is_left(lm: LanguageModel, tokens: Tensor) -> None:
    plain, block = lm.logits(tokens), lm._layers[2]
    before = dict(block.__dict__), len(block._forward_hooks)
    clamp = ClampLatent(exported("abstopk"), 3, 40.0)
    assert not torch.equal(logits(lm, tokens, clamp), plain)
    with pytest.raises(RuntimeError, match="stop"), steered(lm, SITE, clamp):
        raise RuntimeError("stop")
    with pytest.raises(ValueError, match=r"returned \[6, 24, 5\]"):
        logits(lm, tokens, lambda residual: residual[..., :5])
    assert (dict(block.__dict__), len(block._forward_hooks)) == before
    assert torch.equal(lm.logits(tokens), plain)


def test_nested_contexts_act_in_the_order_they_are_entered(lm: LanguageModel, tokens: Tensor) -> None:
    add, ablate = AddDirection(DIRECTION, 40), AblateDirection(DIRECTION)
    only = logits(lm, tokens, ablate)
    torch.testing.assert_close(logits(lm, tokens, add, ablate), only, rtol=1e-3, atol=1e-3)
    theirs = lm.logits_from(add(ablate(lm.residual(tokens, SITE))), tokens, SITE)
    alike(logits(lm, tokens, ablate, add), theirs, only)
    two_sites = logits(lm, tokens, ablate)
    with steered(lm, "blocks.0.hook_resid_post", add):
        assert (logits(lm, tokens, ablate) - two_sites).abs().max() > 0.05
    assert torch.equal(logits(lm, tokens, ablate), only)


def test_dtype_of_model_and_sae_may_differ(lm: LanguageModel, tokens: Tensor) -> None:
    h = lm.residual(tokens, SITE)
    sae = exported("abstopk")
    for intervention in (
        ClampLatent(sae, 3, 40.0),
        ClampLatent(sae, 3, 40.0, keep_error=False),
        ScaleLatent(sae, 3, 2.0),
        AddDirection(DIRECTION.double(), 9.0),
        AblateDirection(DIRECTION),
    ):
        coarse = intervention(h.bfloat16())
        assert coarse.dtype == torch.bfloat16
        torch.testing.assert_close(coarse, intervention(h.bfloat16().float()).bfloat16())
    inactive = int(sae.encode(h.reshape(-1, 128)).abs().sum(0).argmin())
    coarse_sae = random_sae("abstopk").to(dtype=torch.bfloat16)
    kept = ClampLatent(coarse_sae, inactive, 0.0)(h)
    untouched = coarse_sae.encode(h.reshape(-1, 128).bfloat16())[:, inactive] == 0
    assert torch.equal(kept.reshape(-1, 128)[untouched], h.reshape(-1, 128)[untouched])


def test_a_single_position_is_treated_as_in_its_sequence(lm: LanguageModel, tokens: Tensor) -> None:
    h = lm.residual(tokens, SITE)
    for variant in ("topk", "abstopk", "jumprelu", "multistep"):
        clamp = ClampLatent(exported(variant), 9, -3.0)
        torch.testing.assert_close(clamp(h)[:, 7:8], clamp(h[:, 7:8]), rtol=1e-5, atol=1e-4)


def test_flipping_and_reordering_latents_changes_nothing(lm: LanguageModel, tokens: Tensor) -> None:
    sae = random_sae("abstopk")
    turned, moved = flipped(sae), permuted(sae)
    latent = next(i for i in range(256) if torch.equal(turned.W_dec[i], -sae.W_dec[i]))
    plain = lm.logits(tokens)
    ours = logits(lm, tokens, ClampLatent(sae, latent, 30.0))
    alike(logits(lm, tokens, ClampLatent(turned, latent, -30.0)), ours, plain)
    assert (logits(lm, tokens, ClampLatent(turned, latent, 30.0)) - ours).abs().max() > 0.05
    place = next(i for i in range(256) if torch.equal(moved.W_dec[i], sae.W_dec[latent]))
    alike(logits(lm, tokens, ClampLatent(moved, place, 30.0)), ours, plain)


def test_the_split_view_s_two_poles(lm: LanguageModel, tokens: Tensor) -> None:
    sae = exported("abstopk")
    first = most_active(lm, tokens, sae)[0]
    split, both = SplitSAE(sae), AblateLatents(sae, [first])
    width = sae.cfg.d_sae
    alike(
        logits(lm, tokens, AblateLatents(split, [first, first + width])),
        logits(lm, tokens, both),
        lm.logits(tokens),
    )


def test_mistakes_are_sentences(lm: LanguageModel) -> None:
    sae = exported("abstopk")
    for made in (
        lambda: ClampLatent(sae, 256, 1.0),
        lambda: ScaleLatent(sae, -1, 2.0),
        lambda: AblateLatents(sae, [0, 999]),
    ):
        with pytest.raises(UserError, match="no latent"):
            made()
    for direction in (torch.zeros(128), torch.ones(1, 128), torch.full((128,), torch.inf)):
        with pytest.raises(UserError, match="a direction must be a vector"):
            AddDirection(direction, 1.0)
        with pytest.raises(UserError, match="a direction must be a vector"):
            AblateDirection(direction)
    for intervention in (None, AddDirection(DIRECTION, 1.0)):
        with (
            pytest.raises(UserError, match="has 4 blocks"),
            steered(lm, "blocks.4.hook_resid_post", intervention),
        ):
            pass
