"""Faults that are planted into SAEs which fit perfectly: each is found and named, with both numbers."""

import re
from typing import Any

import pytest
import sae_lens
import torch
from sae_lens.registry import SAE_CLASS_REGISTRY
from torch import Tensor

import abench.variants.saes  # noqa: F401 - registers abench's architectures
from abench.importing import Promise, findings
from abench.importing.trust import measured

D_IN, WIDTH, K, TOKENS = 32, 32, 6, 1500
SIZE = 5.0
"""Activations this much larger than those that the dictionary was made for."""
MEAN = 4 * torch.nn.functional.normalize(torch.arange(1.0, D_IN + 1) - 17.3, dim=0)


def dictionary() -> Tensor:
    """Orthonormal directions [WIDTH, D_IN], so that one product with them recovers the codes."""
    torch.manual_seed(1)
    return torch.linalg.qr(torch.randn(D_IN, D_IN)).Q[:WIDTH]


def activations(*, signed: bool, noise: float = 0.02) -> Tensor:
    """Activations [TOKENS, D_IN] of K active directions each, codes between 1 and 2 in size, and a mean."""
    torch.manual_seed(2)
    codes = torch.zeros(TOKENS, WIDTH)
    places = torch.rand(TOKENS, WIDTH).topk(K, dim=-1).indices
    values = 1 + torch.rand(TOKENS, K)
    if signed:
        values = values * torch.where(torch.rand(TOKENS, K) < 0.5, -1.0, 1.0)
    return codes.scatter(-1, places, values) @ dictionary() + MEAN + noise * torch.randn(TOKENS, D_IN)


def sae(architecture: str, /, threshold: float = 0.5, **settings: Any) -> Any:
    """An SAE with the dictionary that made the activations: it reconstructs them but for the noise."""
    sae_class, config_class = SAE_CLASS_REGISTRY[architecture]
    made: sae_lens.SAE[Any] = sae_class(config_class(d_in=D_IN, d_sae=WIDTH, **settings))
    with torch.no_grad():
        made.W_dec.copy_(dictionary())
        made.W_enc.copy_(dictionary().T)
        made.b_dec.copy_(MEAN)
        if hasattr(made, "threshold"):
            made.threshold.fill_(threshold)
    return made.requires_grad_(False)


def only(found: tuple[str, ...]) -> str:
    """The only finding."""
    assert len(found) == 1, found
    return found[0]


def numbers(sentence: str) -> tuple[float, float]:
    """Both explained variances in a sentence: with the other reading, and as it is."""
    match = re.search(r"explained variance (\S+) instead of ([^,]+), L0 \S+ instead of \S+\.", sentence)
    assert match is not None, sentence
    return float(match[1]), float(match[2])


@pytest.mark.parametrize(
    "architecture, signed, settings",
    [
        ("topk", False, {"k": K}),
        ("abstopk", True, {"k": K}),
        ("jumprelu", False, {}),
        ("batchabstopk", True, {}),
        ("topk", False, {"k": K, "rescale_acts_by_decoder_norm": True}),
    ],
)
def test_a_sound_sae_gives_no_finding(architecture: str, signed: bool, settings: Any) -> None:
    x, sound = activations(signed=signed), sae(architecture, **settings)
    assert measured(sound, x).explained > 0.99
    assert findings(sound, Promise(k=K), x, other_bos=x + 1) == ()


@pytest.mark.parametrize(
    "read_as, signed, settings, named",
    [
        ("topk", True, {"k": K}, rf"with each token's {K} latents of largest absolute value \(AbsTopK\)"),
        ("jumprelu", True, {}, "with latents beyond the threshold in absolute value"),
    ],
)
def test_a_wrong_activation_function(read_as: str, signed: bool, settings: Any, named: str) -> None:
    found = findings(sae(read_as, **settings), Promise(k=K), activations(signed=signed))
    sentence = next(each for each in found if each.startswith("It fits better"))
    assert re.search(named, sentence)
    better, worse = numbers(sentence)
    assert better > 0.99 > 0.7 > worse


def test_relu_where_k_latents_were_promised() -> None:
    x = activations(signed=False)
    deviation, better = findings(sae("standard"), Promise(k=K), x)
    assert re.match(rf"Its L0 is 1\d\.\d+, but its files state k = {K}\.", deviation)
    assert f"with each token's {K} largest latents (TopK)" in better


@pytest.mark.parametrize("architecture, settings", [("topk", {"k": K}), ("jumprelu", {})])
@pytest.mark.parametrize("convention", ["√d_in", "mean squared norm of 1"])
def test_a_missing_input_scale(architecture: str, settings: Any, convention: str) -> None:
    x = activations(signed=False) * SIZE
    norms = x.norm(dim=-1)
    factor = D_IN**0.5 / norms.mean() if convention == "√d_in" else 1 / norms.square().mean().sqrt()
    unscaled = sae(architecture, threshold=0.5 * SIZE * float(factor), **settings)
    unscaled.b_dec *= SIZE * factor
    # Weights that were trained on scaled activations, and that are used on others.
    sentence = findings(unscaled, Promise(k=K), x)[-1]
    assert f"if its input is multiplied by {float(factor):.3g}" in sentence
    assert convention in sentence
    assert numbers(sentence)[0] > 0.99


def test_a_bias_that_is_applied_twice_and_one_that_is_missing() -> None:
    x = activations(signed=True)
    twice = sae("abstopk", k=K)
    twice.b_enc -= MEAN @ dictionary().T
    sentence = only(findings(twice, Promise(k=K), x))
    assert "is not subtracted before encoding (a pre-encoder bias that is applied twice)" in sentence
    assert numbers(sentence)[0] > 0.99
    missing = sae("abstopk", k=K, apply_b_dec_to_input=False)
    sentence = only(findings(missing, Promise(k=K), x))
    assert "is subtracted before encoding (a missing pre-encoder bias)" in sentence


@pytest.mark.parametrize("rescales", [True, False])
def test_decoder_norms_that_are_folded_on_one_side_only(rescales: bool) -> None:
    x, lengths = activations(signed=True), torch.linspace(0.3, 3, WIDTH)
    half = sae("abstopk", k=K, rescale_acts_by_decoder_norm=rescales)
    half.W_dec *= lengths[:, None]
    sentence = findings(half, Promise(k=K), x)[-1]
    assert "if the decoder's rows are divided by their norms" in sentence
    assert numbers(sentence)[0] > 0.99


def test_decoder_norms_that_ranking_needs() -> None:
    x, lengths = activations(signed=True), torch.logspace(-1, 1, WIDTH)
    unfolded = sae("abstopk", k=K)
    unfolded.W_dec *= lengths[:, None]
    unfolded.W_enc /= lengths
    sentence = only(findings(unfolded, Promise(k=K), x))
    assert "if latents are ranked with the norms of their decoder rows" in sentence
    assert numbers(sentence)[0] > 0.99


def test_a_missing_bos() -> None:
    x = activations(signed=True)
    torch.manual_seed(3)
    other = x @ torch.linalg.qr(torch.randn(D_IN, D_IN)).Q
    fits = sae("abstopk", k=K)
    found = findings(fits, Promise(k=K), other, other_bos=x, has_bos=False)
    assert found[-1].startswith("It fits better on text that begins with BOS: explained variance 0.9")
    found = findings(fits, Promise(k=K), other, other_bos=x, has_bos=True)
    assert found[-1].startswith("It fits better on text without BOS: ")


def test_the_recorded_l0_counts_more_than_k() -> None:
    x = activations(signed=True)
    assert findings(sae("abstopk", k=K), Promise(k=60, l0=K), x) == ()
    assert only(findings(sae("abstopk", k=K), Promise(l0=20.0), x)) == (
        f"Its L0 is {K}, but its files state a recorded L0 of 20."
    )


def test_an_sae_of_another_place() -> None:
    x = activations(signed=True)
    elsewhere = sae("abstopk", k=K)
    elsewhere.b_dec += 40
    found = findings(elsewhere, Promise(k=K), x)
    assert found[0].startswith("It explains nothing of the variance (explained variance -")
    assert re.match(r"Its reconstructions have \S+ times the norm of the activations", found[1])


class Plain:
    """An SAE of a class that nobody knows."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.W_dec = inner, inner.W_dec

    def encode(self, x: Tensor) -> Tensor:
        codes: Tensor = self._inner.encode(x)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        output: Tensor = self._inner.decode(codes)
        return output


def test_an_unknown_class_is_checked_by_its_input() -> None:
    x = activations(signed=False)
    assert findings(Plain(sae("topk", k=K)), Promise(k=K), x) == ()
    unscaled = sae("topk", k=K)
    unscaled.b_dec *= float(D_IN**0.5 / x.norm(dim=-1).mean())
    assert "a missing input scale" in findings(Plain(unscaled), Promise(k=K), x * SIZE)[-1]


def test_normalised_tokens_are_read_and_undone() -> None:
    x = activations(signed=True)
    standardised = sae("abstopk", k=K, normalize_activations="layer_norm")
    found = findings(standardised, Promise(k=K), x)
    assert all("instead of" in each or "Its L0" in each for each in found)
