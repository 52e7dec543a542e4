"""The sparse codes are those of `encode`, for every registered variant, in both views and at the corners."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from signed import WideSAE, random_sae
from torch import Tensor

from abench import SplitSAE, reconstruct
from abench.kernels.sparse_codes import SparseCodes
from abench.latents.active import active_codes
from abench.latents.encoders import rule_of
from abench.variants import load_sae, save_sae, variant_names

D_IN, WIDTH, K = 16, 256, 8


def activations(tokens: int = 300, seed: int = 0) -> Tensor:
    return torch.randn(tokens, D_IN, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Any]:
    """A random SAE of a variant as inference sees it, with thresholds that few latents pass."""

    def make(variant: str, *, layer_norm: bool = False) -> Any:
        sae = random_sae(variant, d_in=D_IN, width=WIDTH, k=K)
        save_sae(sae, tmp_path, scale=1.0, metadata={}, layer_norm=layer_norm)
        sae = load_sae(tmp_path)
        generator = torch.Generator().manual_seed(3)
        for name, parameter in sae.named_parameters():
            if "threshold" in name:
                parameter.copy_(0.4 + 0.2 * torch.rand(WIDTH, generator=generator))
            if name.startswith(("b_", "r_")):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        return sae

    return make


def dense(codes: SparseCodes) -> Tensor:
    """The codes with zeros, [tokens, width]; an entry that came twice would be seen as its sum."""
    tokens = torch.arange(len(codes.offsets) - 1).repeat_interleave(codes.offsets.diff())
    full = torch.zeros(len(codes.offsets) - 1, codes.width)
    return full.index_put_((tokens, codes.columns), codes.values, accumulate=True)


def assert_codes_are_encodes(sae: Any, x: Tensor) -> None:
    """Equal codes, and no latent active in one only, whatever rounding does to those near zero."""
    found, expected = dense(active_codes(sae, x)), sae.encode(x.to(sae.dtype)).float()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    clear = torch.maximum(found.abs(), expected.abs()) > 1e-5
    assert torch.equal((found != 0)[clear], (expected != 0)[clear])
    assert bool(active_codes(sae, x).values.all())


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("variant", variant_names())
def test_of_every_variant_in_both_views(saved: Callable[..., Any], variant: str, layer_norm: bool) -> None:
    sae = saved(variant, layer_norm=layer_norm)
    for view in (sae, SplitSAE(sae)):
        assert_codes_are_encodes(view, activations())


@pytest.mark.parametrize("variant", variant_names())
def test_every_variants_class_is_known_unless_it_encodes_in_steps(
    saved: Callable[..., Any], variant: str
) -> None:
    assert (rule_of(saved(variant)) is not None) == (variant != "multistep")


@pytest.mark.parametrize("variant", ["topk", "abstopk", "signedtopk"])
@pytest.mark.parametrize("rescale", [False, True])
def test_latents_are_ranked_with_their_decoder_norms_where_these_are_not_folded(
    variant: str, rescale: bool
) -> None:
    sae = random_sae(variant, d_in=D_IN, width=WIDTH, k=K)
    sae.W_dec *= torch.rand(WIDTH, 1, generator=torch.Generator().manual_seed(1)) + 0.5
    sae.cfg.rescale_acts_by_decoder_norm = rescale
    assert_codes_are_encodes(sae, activations())


@pytest.mark.parametrize("variant", ["topk", "abstopk", "signedtopk"])
@pytest.mark.parametrize("k", [1, K, WIDTH - 1])
def test_of_equal_pre_activations_those_are_active_that_encode_chooses(variant: str, k: int) -> None:
    sae = random_sae(variant, d_in=D_IN, width=WIDTH, k=k)
    sae.W_enc.copy_(sae.W_enc.sign())
    x = activations().sign()  # whole numbers: most borders are ties
    assert torch.equal(dense(active_codes(sae, x)), sae.encode(x))


@pytest.mark.parametrize("variant", variant_names())
def test_dead_latents_and_tokens_without_active_ones(saved: Callable[..., Any], variant: str) -> None:
    sae = saved(variant)
    sae.W_enc[:, 4:] = 0
    for name, bias in sae.named_parameters():
        if name.startswith("b_"):
            bias.zero_()
    x = activations()
    x[7] = 0
    assert_codes_are_encodes(sae, x)
    if variant != "multistep":  # which reaches latents through the decoder
        assert int(active_codes(sae, x).columns.max()) < 4


@pytest.mark.parametrize("variant", ["topk", "abstopk", "jumprelu", "batchabstopk", "relu"])
def test_of_the_saes_own_type(saved: Callable[..., Any], variant: str) -> None:
    assert_codes_are_encodes(saved(variant).to(torch.float64), activations())
    sae = saved(variant).to(torch.bfloat16)
    x = activations()
    codes = active_codes(sae, x)
    assert codes.values.dtype == torch.float32
    assert float((dense(codes) - sae.encode(x.bfloat16()).float()).norm() / dense(codes).norm()) < 1e-2


def test_many_blocks_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sae = random_sae("abstopk", d_in=D_IN, width=WIDTH, k=K)
    monkeypatch.setattr("abench.latents.active._ENTRIES_AT_ONCE", {"cpu": 1})
    assert_codes_are_encodes(sae, activations(700))


def test_of_no_tokens() -> None:
    codes = active_codes(random_sae("topk", d_in=D_IN, width=WIDTH), activations(0))
    assert dense(codes).shape == (0, WIDTH)


@pytest.mark.parametrize("variant", variant_names())
def test_what_is_not_a_number_stays_so(saved: Callable[..., Any], variant: str) -> None:
    x = activations(4)
    x[2, 3] = torch.nan
    sae = saved(variant)
    found, expected = dense(active_codes(sae, x)), sae.encode(x)
    assert bool(found[2].isnan().any()) == bool(expected[2].isnan().any())
    assert not bool(found[[0, 1, 3]].isnan().any())


class TestWhatIsNotKnownIsAskedForItsDenseCodes:
    def test_a_class_of_ones_own(self) -> None:
        sae = WideSAE(random_sae("abstopk", d_in=D_IN, width=WIDTH, k=K))
        assert torch.equal(dense(active_codes(sae, activations())), sae.encode(activations()))

    def test_a_class_that_inherits_from_a_known_one(self, saved: Callable[..., Any]) -> None:
        sae = saved("topk")

        class Doubled(type(sae)):  # type: ignore[misc]
            def encode(self, x: Tensor) -> Tensor:
                return 2 * super().encode(x)

        sae.__class__ = Doubled
        assert_codes_are_encodes(sae, activations())

    def test_hooks_on_the_latents(self, saved: Callable[..., Any]) -> None:
        sae = saved("topk")
        plain = dense(active_codes(sae, activations()))
        sae.hook_sae_acts_post.add_hook(lambda codes, hook: codes * 3)
        torch.testing.assert_close(dense(active_codes(sae, activations())), plain * 3)

    def test_another_activation_function(self, saved: Callable[..., Any]) -> None:
        sae = saved("relu")
        sae.activation_fn = torch.nn.Softplus()
        assert_codes_are_encodes(sae, activations())

    def test_another_k_than_the_configurations(self, saved: Callable[..., Any]) -> None:
        sae = saved("abstopk")
        sae.cfg.k = 3  # what encode uses was made from the k before
        assert_codes_are_encodes(sae, activations())

    @pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # sae-lens's tensor
    def test_sparse_latents_of_a_training_sae(self) -> None:
        sae = random_sae("topk", d_in=D_IN, width=WIDTH, k=K)
        sae.cfg.use_sparse_activations = True
        sae.activation_fn = sae.get_activation_fn()
        expected = sae.encode(activations())
        assert expected.is_sparse
        assert torch.equal(dense(active_codes(sae, activations())), expected.to_dense())


def assert_reconstructs(sae: Any, x: Tensor) -> None:
    found = reconstruct(sae, x)
    codes = sae.encode(x)
    torch.testing.assert_close(found.x_hat, sae.decode(codes).float(), atol=1e-5, rtol=1e-5)
    assert torch.equal(found.positive, (codes > 0).sum(0))
    assert torch.equal(found.negative, (codes < 0).sum(0))


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("variant", variant_names())
def test_reconstructions_of_every_variant(saved: Callable[..., Any], variant: str, layer_norm: bool) -> None:
    assert_reconstructs(saved(variant, layer_norm=layer_norm), activations())


@pytest.mark.parametrize("variant", ["topk", "abstopk", "relu", "jumprelu"])
def test_reconstructions_where_norms_are_not_folded_and_where_many_latents_are_active(variant: str) -> None:
    sae = random_sae(variant, d_in=D_IN, width=WIDTH, k=WIDTH // 2)
    sae.W_dec *= torch.rand(WIDTH, 1, generator=torch.Generator().manual_seed(1)) + 0.5
    sae.b_dec += 1
    assert_reconstructs(sae, activations())
    if variant in ("topk", "abstopk"):
        sae.cfg.k = K
        sae.activation_fn = sae.get_activation_fn()
        sae.cfg.rescale_acts_by_decoder_norm = True
        assert_reconstructs(sae, activations())


def test_a_hook_on_reconstructions_is_heeded(saved: Callable[..., Any]) -> None:
    sae = saved("abstopk")
    plain = reconstruct(sae, activations()).x_hat
    sae.hook_sae_recons.add_hook(lambda out, hook: 2 * out)
    torch.testing.assert_close(reconstruct(sae, activations()).x_hat, 2 * plain)
