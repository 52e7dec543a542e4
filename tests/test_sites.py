"""Attention and MLP outputs as sites, against plain hooks of transformers and transformer-lens's bridge."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES, OTHERS, VOCABULARY, build_model, build_other, build_tokenizer

from abench import AddDirection, LanguageModel, UserError, site_name, steered
from abench.lm.behaviour import check_sites
from abench.sites import SITE_KINDS, is_after_block, kind_of, layer_numbers, layer_of
from abench.tinyworld import MODEL_DIR

KINDS = ("attn_out", "mlp_out")
WRITERS = {
    "pythia-70m": ("attention", "mlp"),
    "gpt2": ("attn", "mlp"),
    "gemma-2-2b": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma-3-12b": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "qwen3-4b": ("self_attn", "mlp"),
    "llama-3.1-8b": ("self_attn", "mlp"),
    "falcon": ("self_attention", "mlp"),
    "falcon-40b": ("self_attention", "mlp"),
    "falcon-rw": ("self_attention", "mlp"),
    "bloom": ("self_attention.dense", "mlp.dense_4h_to_h"),
    "gpt_neo": ("attn", "mlp"),
    "mpt": ("attn", "ffn.down_proj"),
    "gptj": ("attn", "mlp"),
    "codegen": ("attn", "mlp"),
    "phi": ("self_attn", "mlp"),
    "phi3": ("self_attn", "mlp"),
    "gpt_bigcode": ("attn", "mlp"),
    "mixtral": ("self_attn", "mlp"),
}
"""The modules of a block that add to the residual stream, by architecture."""
WITHOUT = sorted({*ARCHITECTURES, *OTHERS} - set(WRITERS))
"""Blocks with a norm after the addition, without attention, or with activations that are not [b, s, d]."""


def built(name: str) -> LanguageModel:
    model = (build_model if name in ARCHITECTURES else build_other)(name)
    return LanguageModel(model, build_tokenizer(bos=True), name=name)


@pytest.fixture(scope="module", params=sorted(WRITERS))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return built(request.param)


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(5, VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(0))


def writer(lm: LanguageModel, site: str) -> torch.nn.Module:
    path = WRITERS[lm.name][KINDS.index(kind_of(site))]
    return lm._layers[layer_of(site)].get_submodule(path)


def sites(lm: LanguageModel, *layers: int) -> list[str]:
    return [site_name(layer, kind) for layer in layers or range(lm.n_layers) for kind in KINDS]


@contextmanager
def hooked(module: torch.nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """A plain hook: the hidden state in the module's output is changed."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return change(output)
        return (change(output[0]), *output[1:])

    handle = module.register_forward_hook(hook)
    yield
    handle.remove()


def test_the_residual_stream_is_the_sum_of_what_is_added_to_it(
    lm: LanguageModel, tokens: torch.Tensor
) -> None:
    for layer in range(1, lm.n_layers):
        before, after = site_name(layer - 1), site_name(layer)
        seen = lm.residuals(tokens, [after, *sites(lm, layer), before])
        assert list(seen) == [after, *sites(lm, layer), before]
        attention, mlp = (seen[site] for site in sites(lm, layer))
        torch.testing.assert_close(seen[before] + attention + mlp, seen[after], rtol=1e-5, atol=1e-5)
        assert min(attention.abs().max(), mlp.abs().max()) > 1e-2


def test_sites_are_what_a_plain_hook_sees(lm: LanguageModel, tokens: torch.Tensor) -> None:
    for site in sites(lm):
        seen: list[torch.Tensor] = []
        with hooked(writer(lm, site), lambda x: seen.append(x.clone()) or x), torch.no_grad():  # noqa: B023
            lm.model(input_ids=tokens, use_cache=False)
        torch.testing.assert_close(lm.residual(tokens, site), seen[0], rtol=0, atol=0)


def test_replacing_is_a_full_pass_with_a_plain_hook(lm: LanguageModel, tokens: torch.Tensor) -> None:
    last = torch.tensor([5, 11, 3])
    plain = lm.logits(tokens)
    for site in sites(lm):
        read = lm.residual(tokens, site)
        torch.testing.assert_close(lm.logits_from(read, tokens, site), plain, rtol=0, atol=0)
        changed = torch.randn(read.shape, generator=torch.Generator().manual_seed(1))
        with hooked(writer(lm, site), lambda x: changed.clone()), torch.no_grad():  # noqa: B023
            expected = lm.model(input_ids=tokens, use_cache=False).logits
        untouched = changed.clone()
        for _ in range(2):  # with and without the block's input at hand
            torch.testing.assert_close(lm.logits_from(changed, tokens, site), expected, rtol=0, atol=0)
            following = lm.next_logits_from(changed, tokens, last, site)
            torch.testing.assert_close(following, expected[range(3), last], rtol=1e-4, atol=1e-4)
            lm.residual(tokens.flip(0), site)
        assert torch.equal(changed, untouched)
        assert (expected - plain).abs().max() > 1e-3


def test_gradients_are_those_of_a_full_pass(lm: LanguageModel, tokens: torch.Tensor) -> None:
    last = torch.full((3,), 11)
    for site in sites(lm, 0, lm.n_layers - 1):
        read = lm.residual(tokens, site).clone()
        ours, theirs = (read.clone().requires_grad_() for _ in range(2))
        lm.next_logits_from(ours, tokens, last, site)[:, 7].sum().backward()
        with hooked(writer(lm, site), lambda x: theirs.clone()):  # noqa: B023
            lm.model(input_ids=tokens, use_cache=False).logits[:, -1, 7].sum().backward()
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
        assert ours.grad.abs().max() > 0


def test_steering_a_site_and_generating_under_it(lm: LanguageModel, tokens: torch.Tensor) -> None:
    direction = torch.randn(lm.d_model, generator=torch.Generator().manual_seed(1))
    add = AddDirection(direction, 5)
    prompts = ["the cat sat on", "dog", "a mat and the dog"]
    for site in sites(lm, 1):
        moved = lm.residual(tokens, site) + 5 * direction / direction.norm()
        with steered(lm, site, add):
            ours, replies = lm.logits(tokens), lm.generate(prompts, max_new_tokens=4)
            torch.testing.assert_close(lm.residual(tokens, site), moved, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours, lm.logits_from(moved, tokens, site), rtol=1e-4, atol=1e-4)
        with hooked(writer(lm, site), add):
            assert lm.generate(prompts, max_new_tokens=4) == replies


@pytest.mark.parametrize("name", ["gpt2", "gemma-2-2b"])
def test_a_kept_input_is_never_stale(name: str, tokens: torch.Tensor) -> None:
    lm = built(name)
    runs: list[int] = []
    site, other = site_name(2, "attn_out"), site_name(2, "mlp_out")
    changed = torch.randn(3, 12, lm.d_model, generator=torch.Generator().manual_seed(1))

    def expected(tokens: torch.Tensor = tokens) -> torch.Tensor:
        with hooked(writer(lm, site), lambda _: changed.clone()), torch.no_grad():
            logits: torch.Tensor = lm.model(input_ids=tokens, use_cache=False).logits
            return logits

    def same(tokens: torch.Tensor = tokens) -> None:
        torch.testing.assert_close(lm.logits_from(changed, tokens, site), expected(tokens), rtol=0, atol=0)

    lm.check_sites([site])
    lm.residual(tokens, site)
    attention = writer(lm, site_name(0, "attn_out"))
    run = type(attention).forward
    attention.__class__ = type(
        type(attention).__name__,
        (type(attention),),
        {"forward": lambda self, *a, **k: (runs.append(1), run(self, *a, **k))[1]},
    )
    lm.logits_from(changed, tokens, site)
    assert runs == []  # the pass that read the site has kept the block's input
    lm.logits_from(changed, tokens, other)
    assert runs == []  # both sites of the block have the same one
    same(tokens.flip(1))  # other tokens
    same()
    written = tokens.clone()
    lm.residual(written, site)
    written[:, 0] += 1  # the same object with other tokens
    same(written)
    lm.residual(tokens, site)
    direction = torch.randn(lm.d_model, generator=torch.Generator().manual_seed(1))
    for below in (site_name(0), site_name(1), site_name(1, "mlp_out"), site_name(2), site):
        with steered(lm, below, AddDirection(direction, 5)):
            with hooked(writer(lm, site), lambda _: changed.clone()), torch.no_grad():
                logits = lm.model(input_ids=tokens, use_cache=False).logits
            if below != site:  # interventions at the site itself apply to what replaces it
                torch.testing.assert_close(lm.logits_from(changed, tokens, site), logits, rtol=0, atol=0)
            lm.residual(tokens, site)
        same()
    with torch.no_grad():
        next(iter(lm._layers[0].parameters())).add_(0.5)
    same()


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "gpt2", "pythia-70m", "gemma-2-2b", "gemma-3-12b", "qwen3-4b"]
)
def test_transformer_lens_calls_the_same_tensors_so(name: str, tokens: torch.Tensor, tmp_path: Path) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    build_model(name).save_pretrained(tmp_path)
    build_tokenizer(bos=True).save_pretrained(tmp_path)
    compare_with_bridge(TransformerBridge, tmp_path, LanguageModel.load(tmp_path, name=name), tokens)


def test_transformer_lens_on_the_bundled_model(tokens: torch.Tensor) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    lm = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    compare_with_bridge(TransformerBridge, MODEL_DIR, lm, tokens)


def compare_with_bridge(bridge_type: Any, folder: Any, lm: LanguageModel, tokens: torch.Tensor) -> None:
    bridge = bridge_type.boot_transformers(str(folder), device="cpu")
    _, cache = bridge.run_with_cache(tokens)
    for site in sites(lm):
        torch.testing.assert_close(lm.residual(tokens, site), cache[site], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", WITHOUT)
def test_an_architecture_without_these_sites(name: str, tokens: torch.Tensor) -> None:
    lm = built(name)
    for site in sites(lm, 1):
        with pytest.raises(UserError, match=rf"^{name} \(\w+\) has no sites blocks.1.hook_attn_out and "):
            lm.residual(tokens, site)
        with pytest.raises(UserError, match=r"use blocks.1.hook_resid_post \(sites: resid_post\)$"):
            lm.check_sites([site_name(0), site])
    lm.check_sites([site_name(0)])
    assert lm.residual(tokens, site_name(1)).shape == (3, 12, lm.d_model)


def test_every_block_s_own_modules_are_found_in_half_precision() -> None:
    lm = built("gemma-2-2b")
    lm.model.to(torch.bfloat16)
    with torch.no_grad():
        for block in lm._layers[::2]:
            # Lost in the rounding of the sum, with the norm and without it.
            block.self_attn.o_proj.weight *= 1e-4
            block.post_attention_layernorm.weight.fill_(-0.999)
    assert all(lm._module(site) is writer(lm, site) for site in sites(lm))


def test_a_contribution_that_is_scaled_before_it_is_added_is_refused() -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    sizes = ARCHITECTURES["llama-3.1-8b"][1]
    model = GraniteForCausalLM(GraniteConfig(**sizes, residual_multiplier=0.22))
    lm = LanguageModel(model, build_tokenizer(bos=True), name="granite")
    with pytest.raises(UserError, match="what block 0 returns is not the sum of its input"):
        lm.check_sites([site_name(0, "mlp_out")])


def test_a_site_that_does_not_determine_the_logits(tokens: torch.Tensor) -> None:
    lm = built("llama-3.1-8b")
    site = site_name(1, "mlp_out")
    lm.check_sites([site])
    calls: list[int] = []

    def drift(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return output * (1 + 0.1 * len(calls))

    lm._layers[0].register_forward_hook(drift)
    with pytest.raises(UserError, match=r"no site blocks\.1\.hook_mlp_out that abench can use: its logits"):
        check_sites(lm, [site])


def test_names() -> None:
    assert [kind_of(site_name(3, kind)) for kind in SITE_KINDS] == list(SITE_KINDS)
    assert layer_of("blocks.12.hook_mlp_out") == 12
    assert [is_after_block(site_name(3, kind)) for kind in SITE_KINDS] == [True, False, False]
    with pytest.raises(UserError, match=r"did you mean 'blocks\.2\.hook_attn_out'\?"):
        layer_of("blocks.2.hook_atn_out")
    with pytest.raises(
        UserError, match=r"sites are blocks\.LAYER\.hook_resid_post, blocks\.LAYER\.hook_attn_"
    ):
        layer_of("model.layers.18")


def test_depths() -> None:
    assert layer_numbers(("early", "middle", "late"), 30) == (5, 15, 25)
    assert layer_numbers(("late", 1, "early"), 4) == (3, 1, 0)
    with pytest.raises(
        UserError, match=r"^middle and 2 are the same block: block 2 of 4 \(0 to 3\); leave one"
    ):
        layer_numbers(("middle", 2), 4)
