"""LanguageModel on the architectures of all six models of the paper, real transformers classes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, D_MODEL, N_LAYERS, VOCABULARY

from abench.errors import UserError
from abench.lm.models import LanguageModel
from abench.sites import layer_of, site_name

Folder = Callable[[str], Path]
SITE = "blocks.1.hook_resid_post"


@pytest.fixture(params=sorted(ARCHITECTURES))
def lm(request: pytest.FixtureRequest, model_folder: Folder) -> LanguageModel:
    return LanguageModel.load(model_folder(request.param), name=request.param)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(5, VOCABULARY, (3, 24), generator=torch.Generator().manual_seed(0))


def test_sizes(lm: LanguageModel) -> None:
    assert (lm.n_layers, lm.d_model) == (N_LAYERS, D_MODEL)


def test_residual_is_what_transformers_calls_a_hidden_state(lm: LanguageModel, tokens: torch.Tensor) -> None:
    with torch.no_grad():
        states = lm.model(input_ids=tokens, output_hidden_states=True).hidden_states
    # hidden_states[0] is the embedding; the last entry has the final norm applied, so it is left out.
    for layer in range(N_LAYERS - 1):
        torch.testing.assert_close(lm.residual(tokens, site_name(layer)), states[layer + 1], rtol=0, atol=0)


def test_several_sites_come_from_one_pass_that_stops_at_the_highest(
    lm: LanguageModel, tokens: torch.Tensor
) -> None:
    calls = []
    handle = lm.model.get_decoder().register_forward_hook(lambda *_: calls.append("finished"))
    both = lm.residuals(tokens, [site_name(0), site_name(2)])
    handle.remove()
    assert calls == []
    for site, residual in both.items():
        torch.testing.assert_close(residual, lm.residual(tokens, site), rtol=0, atol=0)


def test_unchanged_residual_gives_the_model_s_own_logits(lm: LanguageModel, tokens: torch.Tensor) -> None:
    for layer in range(N_LAYERS):
        residual = lm.residual(tokens, site_name(layer))
        torch.testing.assert_close(
            lm.logits_from(residual, tokens, site_name(layer)), lm.logits(tokens), rtol=0, atol=0
        )


def test_replaced_residual_equals_a_hook_that_replaces_it(lm: LanguageModel, tokens: torch.Tensor) -> None:
    replaced = lm.residual(tokens, SITE) * 0.5
    handle = lm._layers[1].register_forward_hook(lambda *_: replaced)
    with torch.no_grad():
        expected = lm.model(input_ids=tokens).logits
    handle.remove()
    torch.testing.assert_close(lm.logits_from(replaced, tokens, SITE), expected, rtol=0, atol=0)


def test_lower_blocks_are_not_run(lm: LanguageModel, tokens: torch.Tensor) -> None:
    residual = lm.residual(tokens, SITE)
    run = []
    handles = [
        layer.register_forward_hook(lambda m, i, o, n=n: run.append((n, o is i[0])))
        for n, layer in enumerate(lm._layers)
    ]
    attention = [m for name, m in lm._layers[0].named_modules() if name.endswith(("attn", "attention"))]
    handles += [
        m.register_forward_hook(lambda *_: run.append(("attention of block 0", False))) for m in attention
    ]
    lm.logits_from(residual, tokens, SITE)
    for handle in handles:
        handle.remove()
    assert attention
    assert ("attention of block 0", False) not in run


def test_a_replacement_leaves_no_trace_even_after_an_error(lm: LanguageModel, tokens: torch.Tensor) -> None:
    before = lm.logits(tokens)
    with pytest.raises(RuntimeError):
        lm.logits_from(torch.zeros(3, 24, D_MODEL + 1), tokens, SITE)
    torch.testing.assert_close(lm.logits(tokens), before, rtol=0, atol=0)
    assert all("forward" not in layer.__dict__ for layer in lm._layers)


def test_log_probs_are_those_of_the_following_tokens(lm: LanguageModel, tokens: torch.Tensor) -> None:
    logits = lm.logits(tokens)
    expected = torch.stack(
        [logits[:, i].log_softmax(-1)[range(3), tokens[:, i + 1]] for i in range(23)], dim=1
    )
    torch.testing.assert_close(lm.log_probs(tokens), expected)


def test_transformer_lens_calls_the_same_tensor_resid_post(
    model_folder: Folder, tokens: torch.Tensor
) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    folder = model_folder("qwen3-4b")
    bridge = TransformerBridge.boot_transformers(str(folder), device="cpu")
    _, cache = bridge.run_with_cache(tokens)
    lm = LanguageModel.load(folder, name="qwen3-4b")
    for layer in range(N_LAYERS):
        theirs = cache[f"blocks.{layer}.hook_out"]
        torch.testing.assert_close(lm.residual(tokens, site_name(layer)), theirs, rtol=1e-4, atol=1e-4)


def test_site_names() -> None:
    assert layer_of(site_name(18)) == 18
    with pytest.raises(UserError, match=r"blocks\.LAYER\.hook_resid_post"):
        layer_of("model.layers.18")


def test_layer_out_of_range_is_a_sentence(lm: LanguageModel, tokens: torch.Tensor) -> None:
    with pytest.raises(UserError, match="has 4 blocks"):
        lm.residual(tokens, site_name(4))


def test_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        LanguageModel.load(tmp_path, name="empty")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match="is a pickle"):
        LanguageModel.load(tmp_path, name="pickled")


def test_truncated_weights(model_folder: Folder, tmp_path: Path) -> None:
    for file in model_folder("qwen3-4b").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-100], whole[:40], b"", whole + b"x"):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
            LanguageModel.load(tmp_path, name="truncated")
