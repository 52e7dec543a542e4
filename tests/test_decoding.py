"""Codes in units of the residual stream: what they add, and that one function has one score in all units."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from abench.tasks.safety_utility.methods import Setting, latents
from signed import random_sae
from steering_saes import D_IN, HOW, WIDTH, K, exported, seen
from torch import Tensor

import abench
from abench import (
    ClampLatent,
    LanguageModel,
    SplitSAE,
    contrast_codes,
    from_residual_units,
    in_residual_units,
    latent_codes,
    latent_directions,
    residual_codes,
)
from abench.config import DataSpec
from abench.conformance.rewritten import (
    InOtherUnits,
    Wide,
    flipped,
    for_larger_stream,
    larger_stream,
    normalising,
    permuted,
)
from abench.latents.latent_card import latent_card
from abench.tinyworld import MODEL_DIR, World

SITE = "blocks.2.hook_resid_post"
DATA = DataSpec(source="tinyworld", dataset=None)
_MENTIONED = re.compile(r"""\.normalize_activations|["']normalize_activations["']|normalize_activations=""")
WAYS = ["none", "layer_norm", "constant_norm_rescale"]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def activations(n: int = 60) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, D_IN, generator=generator) * torch.linspace(0.1, 30, n)[:, None]
    return x + 0.2


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("variant", ["relu", "gated", "jumprelu", "topk", "abstopk", "multistep"])
def test_codes_times_directions_are_what_latents_add(variant: str, how: str) -> None:
    sae, x = seen(variant, how), activations()
    with torch.no_grad():
        base = sae.base if isinstance(sae, SplitSAE) else sae
        base.W_dec *= torch.linspace(0.5, 3, base.cfg.d_sae)[:, None]
    try:
        directions, codes = latent_directions(sae), residual_codes(sae, x)
        torch.testing.assert_close(directions.norm(dim=-1), torch.ones(len(directions)))
        whole = sae.decode(sae.encode(x))
        nothing = sae.decode(torch.zeros_like(sae.encode(x)))
        torch.testing.assert_close(whole - nothing, codes @ directions, rtol=1e-4, atol=1e-3)
        some = [3, len(directions) - 1]
        torch.testing.assert_close(latent_directions(sae, some), directions[some])
        torch.testing.assert_close(latent_codes(sae, x, some[1]), codes[:, some[1]])
        torch.testing.assert_close(from_residual_units(sae, x, codes), sae.encode(x), rtol=1e-5, atol=1e-5)
    finally:
        with torch.no_grad():
            base.W_dec /= torch.linspace(0.5, 3, base.cfg.d_sae)[:, None]


def test_codes_of_unit_rows_keep_every_bit() -> None:
    """Rows are folded to norm 1 up to rounding, and that rounding must not reach codes."""
    for variant in ("abstopk", "topk", "relu"):
        sae, x = exported(variant), activations()
        assert not torch.equal(sae.W_dec.norm(dim=-1), torch.ones(WIDTH))
        assert torch.equal(residual_codes(sae, x), sae.encode(x))
        assert torch.equal(latent_directions(sae), sae.W_dec)


def test_a_row_of_zeros_adds_nothing() -> None:
    sae, x = normalising(exported("relu"), "layer_norm"), activations()
    with torch.no_grad():
        sae.W_dec[7] = 0
    codes = residual_codes(sae, x)
    assert sae.encode(x)[:, 7].any()
    assert not codes[:, 7].any()
    assert not latent_directions(sae)[7].any()
    back = from_residual_units(sae, x, codes + 5)
    assert back.isfinite().all()
    assert not back[:, 7].any()


def test_nothing_can_be_put_into_a_token_without_spread() -> None:
    """An SAE that standardises decodes it to its mean, whatever the codes are: they add nothing."""
    sae, x = normalising(exported("abstopk"), "layer_norm"), torch.full((3, D_IN), 2.0)
    assert sae.encode(x).any()
    assert not residual_codes(sae, x).any()
    assert not from_residual_units(sae, x, torch.full((3, WIDTH), 5.0)).any()
    torch.testing.assert_close(sae.decode(sae.encode(x)), x)
    for keep_error in (True, False):
        moved = ClampLatent(sae, 3, 4.0, keep_error=keep_error)(x[None])[0] - x
        torch.testing.assert_close(moved, 4.0 * latent_directions(sae, [3, 3, 3]), atol=1e-5, rtol=1e-5)


def test_the_configuration_s_unit_is_read_in_one_place() -> None:
    packages = [Path(folder) for folder in (*abench.__path__, *abench.tasks.__path__)]
    # `abench.importing` translates the configurations of files; it computes with no codes.
    files = {file for folder in packages for file in folder.rglob("*.py") if "importing" not in file.parts}
    readers = {f.name: f for f in files if _MENTIONED.search(f.read_text(encoding="utf-8"))}
    # Two of them write it: into a saved SAE, and into one for the check of tasks.
    assert sorted(readers) == ["export.py", "normalisation.py", "rewritten.py"]
    for name in ("export.py", "rewritten.py"):
        text = readers[name].read_text(encoding="utf-8")
        assert not re.search(r"normalize_activations\s*(!=|==|\bin\b)", text)


# The same function written otherwise


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variant", ["abstopk", "topk"])
def test_the_rewritten_saes_are_the_same_function(variant: str, way: str) -> None:
    sae, x = normalising(exported(variant), way), activations()
    others = [permuted(sae), InOtherUnits(sae), InOtherUnits(permuted(sae))]
    others += [flipped(sae), InOtherUnits(flipped(sae))] if variant == "abstopk" else []
    for other in others:
        torch.testing.assert_close(other.decode(other.encode(x)), sae.decode(sae.encode(x)))
        assert not torch.equal(other.encode(x), sae.encode(x))
        sizes = residual_codes(other, x).abs().sort().values
        # The units it is in are those of the residual stream but for the length of its decoder's rows.
        torch.testing.assert_close(sizes, residual_codes(sae, x).abs().sort().values, rtol=1e-5, atol=1e-5)
    # A copy must not write a token's statistics into the original.
    before, copied = sae.encode(x), permuted(sae)
    copied.encode(3 * x)
    torch.testing.assert_close(sae.decode(before), sae.decode(sae.encode(x)))


def test_a_larger_stream_is_the_same_model(lm: LanguageModel) -> None:
    larger = larger_stream(lm, 128.0)
    tokens = torch.tensor([[lm.bos_id, *lm.token_ids([next(iter(World().reviews("test", 1))).text])[0][:30]]])
    assert torch.equal(larger.residual(tokens, SITE), 128 * lm.residual(tokens, SITE))  # type: ignore[union-attr]
    assert torch.equal(larger.logits(tokens), lm.logits(tokens))  # type: ignore[union-attr]
    sae, x = random_sae("abstopk", d_in=D_IN, width=WIDTH, k=K), activations()
    scaled = for_larger_stream(sae, 128.0)
    assert torch.equal(scaled.encode(128 * x), 128 * sae.encode(x))
    assert torch.equal(scaled.decode(scaled.encode(128 * x)), 128 * sae.decode(sae.encode(x)))


# What users see of it


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variant", ["abstopk", "topk"])
def test_a_strength_moves_by_as_many_mean_norms_whatever_the_sae_normalises(
    variant: str, way: str, lm: LanguageModel
) -> None:
    sae = normalising(exported(variant), way)
    good = [document.text for document in World().reviews("train", 8)]
    bad = [document.text for document in World().biographies("train", 8)]
    rows = torch.tensor([[lm.bos_id, *ids[:15]] for ids in lm.token_ids(good) if len(ids) >= 15])
    h = lm.residual(rows, SITE)
    norm = float(h[:, 1:].norm(dim=-1).mean())
    for keep_error in (True, False):
        codes = contrast_codes(lm, [sae], good, bad, SITE)(sae)
        found = latents(sae, codes, 1, norm=norm, gradient=torch.zeros(D_IN), keep_error=keep_error)
        silent = latent_codes(sae, h.reshape(-1, D_IN), found.candidates[0].latent) == 0
        assert silent.any()
        before = h.reshape(-1, D_IN) if keep_error else sae.decode(sae.encode(h.reshape(-1, D_IN)))
        moved = (found.at(Setting(0, 0.5))(h).reshape(-1, D_IN) - before)[silent]
        torch.testing.assert_close(
            moved.norm(dim=-1) / norm, torch.full((len(moved),), 0.5), rtol=1e-4, atol=1e-4
        )


def saes_of_the_same_function() -> Iterator[Any]:
    for way in WAYS[1:]:
        sae = normalising(exported("topk"), way)
        yield sae, InOtherUnits(sae)


def test_a_latent_s_card_is_the_same_in_all_units(lm: LanguageModel) -> None:
    options: dict[str, Any] = {"site": SITE, "data": DATA, "context_size": 64, "tokens": 2048, "number": 3}
    for sae, other in saes_of_the_same_function():
        latent = int(sae.encode(lm.residual(torch.arange(5, 200)[None], SITE)[0]).sum(0).argmax())
        one, two = (latent_card(lm, each, latent, **options) for each in (sae, other))
        assert one.contexts is not None
        assert two.contexts is not None
        for side in ("positive", "negative"):
            ours, theirs = getattr(one.contexts, side), getattr(two.contexts, side)
            assert [each.tokens for each in ours] == [each.tokens for each in theirs]
            assert len(ours) == 3
            for a, b in zip(ours, theirs, strict=True):
                assert a.values == pytest.approx(b.values, rel=1e-4, abs=1e-4)
        assert [token for token, _ in one.promoted] == [token for token, _ in two.promoted]


def test_units_of_codes_can_be_given_for_some_latents() -> None:
    sae, x = normalising(exported("abstopk"), "layer_norm"), activations()
    codes = sae.encode(x)
    torch.testing.assert_close(
        in_residual_units(sae, x, codes[:, [4, 9]], [4, 9]), residual_codes(sae, x)[:, [4, 9]]
    )
    split = SplitSAE(sae)
    torch.testing.assert_close(residual_codes(split, x)[:, :WIDTH], residual_codes(sae, x).clamp_min(0))
    torch.testing.assert_close(Wide(sae).encode(x), split.encode(x))
