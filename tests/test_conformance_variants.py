"""The rules for variants: those that come with abench satisfy them, and each rule finds its violation."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from command import Abench
from own_variants import ridge
from torch import Tensor

from abench.conformance.variants import check_variant
from abench.variants import AbsTopK, SAEShape, SignedTopK, TopK, Variant, get_variant, variant_names

__all__ = ["ridge"]  # a fixture


@pytest.mark.parametrize("name", variant_names())
def test_abenchs_own_variants_satisfy_all_rules(name: str) -> None:
    verdict = check_variant(get_variant(name))
    assert verdict.problems == []
    assert len(verdict.findings) == 9


def test_the_documented_variant_satisfies_them_and_a_broken_one_is_named(ridge: Path, abench: Abench) -> None:
    (ridge / "broken.py").write_text("import nothing_like_it\n")
    names = ("--only", "ridgetopk,broken")
    checked = abench("list", "variants", "--check", "--plugins", ridge, "--json", *names)
    rows = {row["name"]: row for row in json.loads(checked.out)}
    assert checked.code == 3
    assert rows["ridgetopk"] == {"name": "ridgetopk", "state": "ok", "problems": []}
    assert rows["broken"]["problems"] == ["import: ModuleNotFoundError: No module named 'nothing_like_it'"]


def built(variant: Variant, **changes: Any) -> Any:
    """A training SAE whose class is replaced by one with these methods."""
    sae = AbsTopK.build(variant, SAEShape(d_in=24, width=96, k=8), 3)
    sae.__class__ = type("Changed", (type(sae),), changes)
    return sae


class Unsaved(AbsTopK):
    """Its saved SAE does not know the factor of the codes."""

    name: ClassVar[str] = "unsaved"

    def build(self, shape: SAEShape, seed: int) -> Any:
        def encode_with_hidden_pre(sae: Any, x: Tensor) -> tuple[Tensor, Tensor]:
            codes, pre = super(type(sae), sae).encode_with_hidden_pre(x)
            return codes * 0.5, pre

        return built(self, encode_with_hidden_pre=encode_with_hidden_pre)


class Stopped(AbsTopK):
    """The gradient does not reach the encoder."""

    name: ClassVar[str] = "stopped"

    def build(self, shape: SAEShape, seed: int) -> Any:
        def encode_with_hidden_pre(sae: Any, x: Tensor) -> tuple[Tensor, Tensor]:
            codes, pre = super(type(sae), sae).encode_with_hidden_pre(x)
            return codes.detach(), pre

        return built(self, encode_with_hidden_pre=encode_with_hidden_pre)


class Wider(TopK):
    """Keeps two latents more than k."""

    name: ClassVar[str] = "wider"

    def training_config(self, shape: SAEShape) -> Any:
        return super().training_config(SAEShape(shape.d_in, shape.width, shape.k + 2))


class ByValue(SignedTopK):
    """Selects by value, which it does not declare."""

    name: ClassVar[str] = "byvalue"
    flippable: ClassVar[bool] = True


class Declared(AbsTopK):
    """Declares that flips change it."""

    name: ClassVar[str] = "declared"
    flippable: ClassVar[bool] = False


class NotNegative(AbsTopK):
    """Declares that its latents are not negative."""

    name: ClassVar[str] = "notnegative"
    signed: ClassVar[bool] = False


class Drawing(TopK):
    """Draws random numbers of its own, without the seed."""

    name: ClassVar[str] = "drawing"

    def build(self, shape: SAEShape, seed: int) -> Any:
        sae = super().build(shape, seed)
        with torch.no_grad():
            sae.b_enc += 0.01 * torch.randn(shape.width)
        return sae


class Raising(TopK):
    """Cannot be calibrated."""

    name: ClassVar[str] = "raising"

    def calibrate(self, sae: Any, activations: Tensor, k: int) -> None:
        raise RuntimeError("no threshold")


class Undocumented(TopK):
    name: ClassVar[str] = "undocumented"


Undocumented.__doc__ = None

VIOLATIONS: dict[type[Variant], str] = {
    Unsaved: "saving changes nothing: reconstructions differ by",
    Stopped: "the gradient is the derivative of the loss: that of b_dec, W_dec, W_enc, b_enc",
    Wider: "L0 is k: on unseen activations 1",
    ByValue: "flipping the sign of latents changes nothing: codes differ by",
    Declared: "it is declared not flippable, but flips change nothing",
    NotNegative: "signs are as declared: it is declared non-negative, but codes are negative",
    Drawing: "the seed determines the weights: two SAEs of one seed differ in b_enc",
    Raising: "runs: RuntimeError: no threshold",
    Undocumented: "declaration: it has no docstring",
}


@pytest.mark.parametrize("variant", VIOLATIONS, ids=lambda each: each.__name__)
def test_each_rule_finds_its_violation(variant: type[Variant]) -> None:
    problems = "\n".join(check_variant(variant()).problems)
    assert VIOLATIONS[variant] in problems
