"""Top contexts: what one pass keeps is what looking at everything finds."""

from typing import Any

import pytest
import torch
from signed import random_sae

from abench import LatentContexts, SplitSAE, TokenRows, ordinary, residual_codes, top_contexts
from abench.conformance.bench import Bench
from abench.conformance.rewritten import InOtherUnits, normalising
from abench.latents.context_search import pre_activations

LATENTS = [7, 3, 40, 90, 11]


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(limit=30)


@pytest.fixture(scope="module")
def tokens(bench: Bench) -> torch.Tensor:
    return TokenRows(bench.lm, bench.data, "held_out", 128).batch(30)  # type: ignore[arg-type]


def group(bench: Bench, *saes: Any, batch_size: int = 7) -> dict[str, Any]:
    return {"site": bench.site, "saes": saes, "batch_size": batch_size}


def found(bench: Bench, tokens: torch.Tensor, sae: Any, **options: Any) -> Any:
    with torch.no_grad():
        return top_contexts(bench.lm, tokens, **group(bench, sae), latents=lambda _: LATENTS, **options)(sae)


def everything(bench: Bench, tokens: torch.Tensor, encode: Any) -> torch.Tensor:
    """Values [rows, context, latents], NaN at special tokens."""
    mask = ordinary(tokens, bench.lm)
    x = bench.lm.residual(tokens, bench.site)[mask].float()
    values = torch.full((*mask.shape, len(LATENTS)), torch.nan)
    values[mask] = encode(x)
    return values


def check_side(
    bench: Bench, tokens: torch.Tensor, values: torch.Tensor, excerpts: Any, sign: int, number: int
) -> None:
    """`values` [rows, context] of one latent."""
    strength = (sign * values).nan_to_num(-torch.inf)
    best = strength.max(1).values.sort(descending=True).values[:number]
    got = [sign * each.value for each in excerpts]
    assert got == pytest.approx(best[: len(got)].tolist(), rel=1e-4, abs=1e-4)
    assert len({each.row for each in excerpts}) == len(excerpts)
    for each in excerpts:
        start = each.position - each.peak
        columns = range(start, start + len(each.tokens))
        assert len(each.tokens) <= 2 * 5 + 1
        assert each.values == pytest.approx(values[each.row, columns].tolist(), rel=1e-4, abs=1e-4)
        ids = tokens[each.row, columns].tolist()
        assert not set(ids) & bench.lm.special_ids  # type: ignore[union-attr]
        assert "".join(each.tokens) == bench.lm.tokenizer.decode(ids)  # type: ignore[union-attr]


@pytest.mark.parametrize("way", ["none", "layer_norm", "constant_norm_rescale"])
def test_a_signed_sae_s_contexts_are_those_of_a_full_search(
    bench: Bench, tokens: torch.Tensor, way: str
) -> None:
    sae = normalising(random_sae("abstopk", width=100, k=10), way)
    top = found(bench, tokens, sae, number=4, around=5)
    values = everything(bench, tokens, lambda x: residual_codes(sae, x)[:, LATENTS])
    assert top.signed
    assert [each.latent for each in top.latents] == LATENTS
    for place, each in enumerate(top.latents):
        assert len(each.positive) == len(each.negative) == 4
        check_side(bench, tokens, values[..., place], each.positive, 1, 4)
        check_side(bench, tokens, values[..., place], each.negative, -1, 4)
        seen = values[..., place][~values[..., place].isnan()]
        assert each.positive_rate == pytest.approx(float((seen > 0).float().mean()))
        assert each.negative_rate == pytest.approx(float((seen < 0).float().mean()))


@pytest.mark.parametrize("variant", ["topk", "relu", "gated", "jumprelu"])
def test_a_non_negative_sae_s_other_side_is_the_lowest_pre_activations(
    bench: Bench, tokens: torch.Tensor, variant: str
) -> None:
    sae = random_sae(variant, width=100, k=50)
    top = found(bench, tokens, sae, number=4, around=5)
    codes = everything(bench, tokens, lambda x: sae.encode(x)[:, LATENTS])
    bias = sae.b_gate if variant == "gated" else sae.b_enc
    pre = everything(bench, tokens, lambda x: (sae.process_sae_in(x) @ sae.W_enc + bias)[:, LATENTS])
    assert not top.signed
    for each in top.latents:
        place = LATENTS.index(each.latent)
        check_side(bench, tokens, codes[..., place], each.positive, 1, 4)
        check_side(bench, tokens, pre[..., place], each.negative, -1, 4)
        assert len(each.negative) == 4
        assert each.negative_rate == 0


@pytest.mark.parametrize("way", ["layer_norm", "constant_norm_rescale"])
def test_the_lowest_pre_activations_are_the_same_in_all_units(
    bench: Bench, tokens: torch.Tensor, way: str
) -> None:
    sae = normalising(random_sae("topk", width=100, k=50), way)
    with torch.no_grad():
        sae.b_enc += torch.linspace(-1, 1, 100)
    one, two = (found(bench, tokens, each, number=4, around=5) for each in (sae, InOtherUnits(sae)))
    for ours, theirs in zip(one.latents, two.latents, strict=True):
        for side in ("positive", "negative"):
            pairs = zip(getattr(ours, side), getattr(theirs, side), strict=True)
            for a, b in pairs:
                assert (a.row, a.position) == (b.row, b.position)
                assert a.values == pytest.approx(b.values, rel=1e-4, abs=1e-4)


def test_in_the_split_view_each_pole_that_fires_is_alive(bench: Bench, tokens: torch.Tensor) -> None:
    sae = random_sae("abstopk", width=100, k=10)
    sae.b_enc[:5] += 1000  # these never fire on the negative side
    with torch.no_grad():
        both = top_contexts(  # type: ignore[arg-type]
            bench.lm, tokens, **group(bench, sae), latents=lambda _: range(100)
        )
    native, split = both(sae), both(SplitSAE(sae))
    fired = sum((each.positive_rate > 0) + (each.negative_rate > 0) for each in native.latents)
    assert native.alive < fired == native.alive_poles < 2 * native.alive
    assert (split.alive, split.alive_poles, split.width) == (fired, fired, 200)
    assert split.alive == len(split.latents)


def test_latents_that_never_fire_are_left_out_and_the_first_that_do_are_taken(
    bench: Bench, tokens: torch.Tensor
) -> None:
    sae = random_sae("abstopk", width=100, k=10)
    sae.W_enc[:, [7, 40]] = 0
    sae.b_enc[[7, 40]] = 0
    top = found(bench, tokens, sae, most=2)
    assert [each.latent for each in top.latents] == [3, 90]
    assert (top.alive, top.width) == (98, 100)


def test_the_size_of_blocks_and_other_saes_change_nothing(bench: Bench, tokens: torch.Tensor) -> None:
    sae, other = random_sae("abstopk", width=100, k=10), random_sae("topk", width=64, k=4)
    with torch.no_grad():
        results = [
            top_contexts(bench.lm, tokens, **ours, latents=lambda _: [1, 2, 3])(sae)  # type: ignore[arg-type]
            for ours in (group(bench, sae, batch_size=30), group(bench, other, sae, batch_size=4))
        ]
    places = [
        [(c.row, c.position) for each in r.latents for c in (*each.positive, *each.negative)] for r in results
    ]
    assert places[0] == places[1]


def test_an_sae_that_fails_costs_its_own_result_only(bench: Bench, tokens: torch.Tensor) -> None:
    class Broken:
        cfg = random_sae(width=16, k=2).cfg
        dtype, device = torch.float32, torch.device("cpu")

        def encode(self, _x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no codes today")

    broken, sae = Broken(), random_sae("abstopk", width=100, k=10)
    with torch.no_grad():
        results = top_contexts(bench.lm, tokens, **group(bench, broken, sae), latents=lambda _: [1])  # type: ignore[arg-type]
    assert isinstance(results(sae).latents[0], LatentContexts)
    with pytest.raises(RuntimeError, match="no codes today"):
        results(broken)


def test_pre_activations_are_those_of_the_encoder() -> None:
    sae = random_sae("topk", width=40, k=39)
    x = torch.randn(9, 128, generator=torch.Generator().manual_seed(0))
    codes = sae.encode(x)[:, [5, 1]]
    fired = codes > 0
    assert fired.any()
    assert torch.allclose(pre_activations(sae, x, [5, 1])[fired], codes[fired], atol=1e-5)
