"""An object with `encode`, `decode` and `W_dec` becomes an SAE, or a sentence says why it cannot."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from signed import random_sae
from steering_saes import HOW, seen
from torch import Tensor, nn

from abench import SplitSAE, UserError
from abench.conformance.rewritten import Bare
from abench.latents.anyones import AnyonesSAE, as_sae
from abench.latents.decoding import latent_directions, output_gain, residual_codes
from abench.latents.signedness import has_negative_codes

D_IN, WIDTH = 16, 24


def activations(n: int = 40, d: int = D_IN) -> Tensor:
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(5)) + 0.5


class Plain:
    """A class of ten lines."""

    def __init__(self, width: int = WIDTH, d_in: int = D_IN) -> None:
        generator = torch.Generator().manual_seed(0)
        self.W_dec = torch.randn(width, d_in, generator=generator)
        self.bias = torch.randn(d_in, generator=generator)

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu((x - self.bias) @ self.W_dec.T - 1)

    def decode(self, codes: Tensor) -> Tensor:
        return codes @ self.W_dec + self.bias


def test_ten_lines_are_an_sae() -> None:
    mine = Plain()
    sae = as_sae(mine)
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.dtype, sae.device.type) == (D_IN, WIDTH, torch.float32, "cpu")
    assert sae.linear
    assert sae.notes == ()
    x = activations()
    assert torch.equal(sae.encode(x), mine.encode(x))
    assert torch.equal(sae.encode(x.view(4, 10, D_IN))[2, 3], mine.encode(x)[23])
    assert torch.equal(sae(x.view(4, 10, D_IN)).view(40, D_IN), mine.decode(mine.encode(x)))
    assert not hasattr(sae, "W_enc")
    assert not hasattr(sae, "b_dec")
    assert repr(sae) == "AnyonesSAE(Plain: 24 latents, d_in 16)"


def test_the_saes_of_sae_lens_and_abench_are_returned() -> None:
    sae = random_sae("abstopk")
    assert as_sae(sae) is sae
    split = SplitSAE(sae)
    assert as_sae(split) is split
    mine = as_sae(Plain(), signed=True)
    assert as_sae(mine) is mine
    assert mine.signed


def test_as_a_key_it_is_its_object() -> None:
    one, other = Plain(), Plain()
    results = {as_sae(one): 1}
    assert results[one] == results[as_sae(one)] == 1  # type: ignore[index]
    assert other not in results

    @dataclass
    class Unhashable(Plain):
        k: int = 3

        def __post_init__(self) -> None:
            super().__init__()

    mine = Unhashable()
    assert {as_sae(mine): 1}[as_sae(mine)] == 1


@pytest.mark.parametrize("how", [how for how in HOW if "split" not in how])
@pytest.mark.parametrize("variant", ["relu", "abstopk", "multistep"])
def test_codes_mean_what_they_mean_in_the_known_class(variant: str, how: str) -> None:
    sae, x = seen(variant, how), activations(d=128)
    mine = as_sae(Bare(sae))
    assert mine.linear
    torch.testing.assert_close(residual_codes(mine, x), residual_codes(sae, x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(latent_directions(mine), latent_directions(sae))


class Scaled(Plain):
    """Multiplies everything by 5 after decoding, which its W_dec does not show."""

    def decode(self, codes: Tensor) -> Tensor:
        return 5 * super().decode(codes)


class Folded(Plain):
    """Multiplies each code by a factor of its own."""

    def decode(self, codes: Tensor) -> Tensor:
        return super().decode(codes * torch.linspace(0.5, 2, WIDTH))


class Fluctuating(Plain):
    """Decodes at the scale of the largest entry of what was encoded last."""

    def encode(self, x: Tensor) -> Tensor:
        self.scale = x.abs().amax(-1, keepdim=True)
        return super().encode(x / self.scale)

    def decode(self, codes: Tensor) -> Tensor:
        return self.scale * super().decode(codes)


@pytest.mark.parametrize("kind", [Plain, Scaled, Folded, Fluctuating])
def test_codes_times_directions_are_what_is_added(kind: type[Plain]) -> None:
    sae, x = as_sae(kind()), activations()
    assert sae.linear
    codes = sae.encode(x)
    whole = sae.decode(codes)
    sae.encode(x)
    nothing = sae.decode(torch.zeros_like(codes))
    expected = residual_codes(sae, x) @ latent_directions(sae)
    torch.testing.assert_close(whole - nothing, expected, rtol=1e-3, atol=1e-3)


def test_a_gain_that_is_measured_leaves_the_object_ready_to_decode() -> None:
    sae, x = as_sae(Fluctuating()), activations()
    assert "depends on the token" in sae.notes[0]
    codes = sae.encode(x)
    expected = sae.decode(codes)
    gain = output_gain(sae, x)
    assert gain is not None
    torch.testing.assert_close(gain, x.abs().amax(-1, keepdim=True))
    assert torch.equal(sae.decode(codes), expected)


class Squared(Plain):
    def decode(self, codes: Tensor) -> Tensor:
        return super().decode(codes.square())


def test_a_decoder_that_is_not_linear_is_noted() -> None:
    sae = as_sae(Squared())
    assert not sae.linear
    assert "not linear" in sae.notes[0]


def test_gradients_reach_codes_and_weights_are_left_alone() -> None:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.W_dec = nn.Parameter(torch.randn(WIDTH, D_IN))

        def encode(self, x: Tensor) -> Tensor:
            return (x @ self.W_dec.T).relu()

        def decode(self, codes: Tensor) -> Tensor:
            return codes @ self.W_dec

    mine = Module()
    sae = as_sae(mine)
    assert not sae.encode(activations()).requires_grad
    assert not sae.W_dec.requires_grad
    codes = sae.encode(activations()).requires_grad_()
    (slope,) = torch.autograd.grad(sae.decode(codes).sum(), codes)
    assert slope.any()
    assert mine.W_dec.requires_grad
    assert mine.W_dec.grad is None


# What is no SAE


class NoDecode:
    W_dec = torch.zeros(WIDTH, D_IN)

    def encode(self, x: Tensor) -> Tensor:
        return x


class Raises(Plain):
    def encode(self, x: Tensor) -> Tensor:
        raise RuntimeError("out of ideas")


class WrongShape(Plain):
    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x)[:, :5]


class Pair(Plain):
    def encode(self, x: Tensor) -> Any:
        return super().encode(x), 0


class WrongDecode(Plain):
    def decode(self, codes: Tensor) -> Tensor:
        return super().decode(codes)[:, :3]


class Dropout(Plain):
    def encode(self, x: Tensor) -> Tensor:
        return torch.nn.functional.dropout(super().encode(x), 0.5)


class NotFinite(Plain):
    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x) / 0


class Transposed(Plain):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__(width)
        self.right = self.W_dec
        self.W_dec = self.W_dec.T

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu((x - self.bias) @ self.right.T)

    def decode(self, codes: Tensor) -> Tensor:
        return codes @ self.right + self.bias


def with_weights(weights: Any) -> Plain:
    mine = Plain()
    mine.W_dec = weights
    return mine


@pytest.mark.parametrize(
    ("obj", "sentence"),
    [
        (NoDecode(), "NoDecode is not an SAE: it has no decode(codes), which gives"),
        (object(), "it has no encode(x), .*; no decode(codes), .*; no W_dec, a tensor"),
        (Plain, "Plain is a class, not an SAE: give an object of it"),
        ("gpt2", "class str is not an SAE"),
        (with_weights([[1.0]]), r"must be a floating-point tensor \[latents, d_in\], not list"),
        (with_weights(torch.ones(3, 4, 5)), r"not torch.float32 \[3, 4, 5\]"),
        (with_weights(torch.full((WIDTH, D_IN), torch.nan)), "W_dec .* has values that are not finite"),
        (Raises(), r"the encode of .*Raises fails for activations \[8, 16\]: RuntimeError: out of ideas"),
        (WrongShape(), r"must give a floating-point tensor \[8, 24\] for \[8, 16\], .* \[8, 5\]"),
        (Pair(), "but gives a value of type tuple"),
        (WrongDecode(), r"the decode of .* \[8, 16\] for \[8, 24\], .* \[8, 3\]"),
        (Dropout(), r"different codes for the same activations: .*call eval\(\)"),
        (NotFinite(), "codes that are not finite for random activations"),
        (Transposed(), r"is transposed: it is \[d_in, latents\] = \[16, 24\], .*give W_dec.T"),
        (Transposed(D_IN), r"is transposed: it is \[d_in, latents\] = \[16, 16\]"),
    ],
)
def test_what_is_no_sae_is_refused_with_a_sentence(obj: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("(x)", r"\(x\)").replace("(codes)", r"\(codes\)")):
        as_sae(obj)


def test_codes_that_are_not_finite_later_are_found() -> None:
    class Fragile(Plain):
        def encode(self, x: Tensor) -> Tensor:
            return super().encode(x) / (x.norm(dim=-1, keepdim=True) < 100)

    sae, x = as_sae(Fragile()), activations()
    x[7] *= 1000
    with pytest.raises(UserError, match="codes that are not finite on 1 of 40 activations"):
        sae.encode(x)


# Signs


@pytest.mark.parametrize(("variant", "signed"), [("abstopk", True), ("topk", False), ("relu", False)])
def test_signedness_is_found_by_looking(variant: str, signed: bool) -> None:
    sae, x = random_sae(variant), activations(d=128)
    assert has_negative_codes(sae, x) == has_negative_codes(as_sae(Bare(sae)), x) == signed
    assert isinstance(as_sae(Bare(sae)), AnyonesSAE)
