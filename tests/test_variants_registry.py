"""Variants by name: what is known, what is refused, and what is said about it."""

import subprocess
import sys
from collections.abc import Iterator
from typing import ClassVar

import pytest

from abench.errors import UserError
from abench.variants import TopK, get_variant, register, registry, variant_names
from abench.variants.topk import top_k


@pytest.fixture
def known_variants(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, type]]:
    variants = dict(registry._variants)
    monkeypatch.setattr(registry, "_variants", variants)
    yield variants


def test_all_are_known() -> None:
    paper = ["relu", "gated", "jumprelu", "topk", "batchtopk", "abstopk", "batchabstopk"]
    assert variant_names() == [
        *paper, "absjumprelu", "multistep", "matryoshka", "absmatryoshka", "signedtopk"
    ]  # fmt: skip
    for name in variant_names():
        variant = get_variant(name)
        assert variant.name == name and variant.regulariser and variant.title
    unsigned = {name for name in variant_names() if not get_variant(name).signed}
    assert unsigned == {"relu", "gated", "jumprelu", "topk", "batchtopk", "matryoshka"}


def test_every_option_is_described() -> None:
    for name in variant_names():
        for option, field in type(get_variant(name)).model_fields.items():
            assert field.description, f"{name}.{option} has no docstring"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("abstpk", {}, "unknown variant 'abstpk'; did you mean 'abstopk'?"),
        ("sparsemax", {}, "unknown variant 'sparsemax'; known: absjumprelu, absmatryoshka, abstopk, batch"),
        (
            "jumprelu",
            {"bandwith": 1},
            "variant 'jumprelu' has no option 'bandwith'; did you mean 'bandwidth'?",
        ),
        (
            "topk",
            {"coefficient": 1},
            "variant 'topk' has no option 'coefficient'; did you mean 'aux_loss_coeff",
        ),
        (
            "relu",
            {"coefficient": -1},
            "option 'coefficient' of variant 'relu' must be at least 0 (got -1)",
        ),
        ("relu", {"coefficient": "much"}, "a number is needed, not text (got 'much')"),
        ("relu", {"coefficient": float("nan")}, "must be a finite number (got nan)"),
        ("jumprelu", {"bandwidth": 0}, "option 'bandwidth' of variant 'jumprelu' must be above 0"),
        (
            "jumprelu",
            {"loss": "quadratic"},
            "option 'loss' of variant 'jumprelu' must be 'step' or 'tanh' (got 'quadratic')",
        ),
        ("topk", {"aux_loss_coefficient": False}, "a number is needed, not true or false (got False)"),
        ("topk", {"name": "x"}, "variant 'topk' has no option 'name'"),
    ],
)
def test_mistakes_are_explained(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        get_variant(name, options)
    assert message in str(caught.value)


def test_options_reach_the_training_sae() -> None:
    from abench.variants import SAEShape

    paper = {
        "initial_threshold": 1.0,
        "bandwidth": 1e-3,
        "coefficient": 0.004,
        "train_encoder_through_gate": False,
    }
    config = get_variant("jumprelu", paper).training_config(SAEShape(d_in=8, width=32, k=4))
    assert (config.jumprelu_init_threshold, config.jumprelu_bandwidth) == (1.0, 0.001)
    assert (config.l0_coefficient, config.jumprelu_ste_to_input) == (0.004, False)
    for name in ("topk", "abstopk", "batchtopk", "batchabstopk"):
        options = {"aux_loss_coefficient": 1 / 32, "decoder_init_norm": 0.1}
        sae = get_variant(name, options).build(SAEShape(d_in=8, width=32, k=4), seed=0)
        assert (sae.cfg.aux_loss_coefficient, sae.cfg.k) == (1 / 32, 4)
        assert sae.W_dec.norm(dim=-1).tolist() == pytest.approx([0.1] * 32)


def test_third_party_variants_register(known_variants: dict[str, type]) -> None:
    @register
    class Mine(TopK):
        name: ClassVar[str] = "mine"

    assert variant_names()[-1] == "mine" and isinstance(get_variant("mine"), Mine)
    register(Mine)  # twice is harmless

    class Imposter(TopK):
        """Has TopK's name."""

    with pytest.raises(ValueError, match=r"'topk' is taken by abench\.variants\.topk\.TopK"):
        register(Imposter)
    assert known_variants["topk"] is TopK and top_k is not None


def test_planning_with_variants_imports_neither_torch_nor_sae_lens() -> None:
    """What is planned may all be in the results folder already; sae_lens alone takes seconds to import."""
    code = (
        "import sys; from abench.variants import get_variant, variant_names\n"
        "for name in variant_names(): get_variant(name)\n"
        "print([m for m in ('torch', 'sae_lens', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
