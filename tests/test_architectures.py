"""Architectures of every build: blocks that return tuples, other names and positions; what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import OTHERS, UNFIT, VOCABULARY, build_model, build_other, build_tokenizer

from abench import AddDirection, LanguageModel, UserError, site_name, steered
from abench.latents.latent_card import said
from abench.lm.behaviour import check_behaviour
from abench.lm.blocks import blocks_of, hidden_of, with_hidden
from abench.lm.model_folder import examine

Write = Callable[[str], Path]
DEPTH, WIDTH = 3, 32


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Writes the folder of a small model of an architecture."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            build_other(name).save_pretrained(made[name])
            build_tokenizer(bos=True).save_pretrained(made[name])
        return made[name]

    return folder


@pytest.fixture(scope="module", params=sorted(OTHERS))
def lm(request: pytest.FixtureRequest, write: Write) -> LanguageModel:
    return LanguageModel.load(write(request.param), name=request.param)


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(5, VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(0))


def test_the_sizes_are_known_before_the_weights_are_read(lm: LanguageModel, write: Write) -> None:
    sizes = examine(write(lm.name))
    assert (sizes.n_layers, sizes.d_model) == (lm.n_layers, lm.d_model) == (DEPTH, WIDTH)
    assert sizes.max_context == lm.max_context


def test_residual_streams_are_the_model_s_own_hidden_states(lm: LanguageModel, tokens: torch.Tensor) -> None:
    with torch.no_grad():
        states = lm.model(input_ids=tokens, output_hidden_states=True, use_cache=False).hidden_states
    # All give the embedding first, but Mamba, which gives the normed stream twice instead.
    first = 0 if lm.name == "mamba" else 1
    sites = [site_name(layer) for layer in range(DEPTH - 1)]
    for layer, residual in enumerate(lm.residuals(tokens, sites).values()):
        torch.testing.assert_close(residual, states[first + layer], rtol=0, atol=0)


def test_a_pass_resumes_at_every_block(lm: LanguageModel, tokens: torch.Tensor) -> None:
    logits, last = lm.logits(tokens), torch.tensor([5, 11, 3])
    for layer in range(DEPTH):
        site = site_name(layer)
        residual = lm.residual(tokens, site)
        torch.testing.assert_close(lm.logits_from(residual, tokens, site), logits, rtol=0, atol=0)
        following = lm.next_logits_from(residual, tokens, last, site)
        torch.testing.assert_close(following, logits[range(3), last], rtol=1e-4, atol=1e-5)


def test_steering_is_resuming_from_another_residual_stream(lm: LanguageModel, tokens: torch.Tensor) -> None:
    direction = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    site = site_name(1)
    moved = lm.residual(tokens, site) + 5 * direction / direction.norm()
    with steered(lm, site, AddDirection(direction, 5)):
        ours = lm.logits(tokens)
    torch.testing.assert_close(ours, lm.logits_from(moved, tokens, site), rtol=1e-4, atol=1e-4)
    assert (ours - lm.logits(tokens)).abs().max() > 1e-3


def test_replies_do_not_depend_on_the_batch(lm: LanguageModel) -> None:
    prompts = ["the cat sat on", "dog", "a mat and the dog"]
    alone = [lm.generate([prompt], max_new_tokens=5)[0] for prompt in prompts]
    assert lm.generate(prompts, max_new_tokens=5) == alone


@pytest.mark.parametrize("name", sorted(UNFIT))
def test_what_is_no_causal_decoder_is_one_sentence_when_planning(name: str, write: Write) -> None:
    with pytest.raises(UserError, match=UNFIT[name][2]):
        examine(write(name))


def test_a_model_whose_logits_do_not_follow_from_its_blocks() -> None:
    lm = LanguageModel(build_model("llama-3.1-8b"), build_tokenizer(bos=True), name="odd")
    check_behaviour(lm)
    first = lm._layers[0]
    seen: list[torch.Tensor] = []
    first.self_attn.register_forward_hook(lambda _m, _i, output: seen.append(output[0]))

    def past_the_blocks(_module: Any, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state + (seen.pop() if seen else 0)
        return output

    lm.model.get_decoder().register_forward_hook(past_the_blocks)
    with pytest.raises(UserError, match=r"odd \(LlamaForCausalLM\) is not .* its logits are not determined"):
        check_behaviour(lm)


def test_a_model_whose_tokens_see_the_ones_after_them() -> None:
    lm = LanguageModel(build_model("llama-3.1-8b"), build_tokenizer(bos=True), name="odd")

    def mean(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output + output.mean(1, keepdim=True)

    lm._layers[1].register_forward_hook(mean)
    with pytest.raises(UserError, match="its tokens attend to later tokens"):
        check_behaviour(lm)


def test_a_model_without_a_list_of_blocks() -> None:
    model = build_model("gpt2")
    model.config.n_layer = 5
    with pytest.raises(UserError, match=r"found no list of 5 blocks in gpt2 \(GPT2LMHeadModel\)"):
        blocks_of(model, "gpt2")


def test_what_a_direction_promotes_is_read_off_behind_the_last_block(lm: LanguageModel) -> None:
    """Whatever the norm and what else comes between the blocks and the logits is called."""
    direction = torch.randn(lm.d_model, generator=torch.Generator().manual_seed(0))

    def logits(residual: torch.Tensor) -> torch.Tensor:
        def replaced(_module: Any, _inputs: Any, output: Any) -> Any:
            return with_hidden(output, residual.expand_as(hidden_of(output)))

        handle = blocks_of(lm.model, lm.name)[-1].register_forward_hook(replaced)
        with torch.no_grad():
            found: torch.Tensor = lm.model(input_ids=torch.tensor([[7]]), use_cache=False).logits[0, 0]
        handle.remove()
        return found

    change = logits(direction) - logits(torch.zeros_like(direction))
    change -= change.mean()
    promoted, suppressed = said(lm, direction, 5)
    torch.testing.assert_close(torch.tensor([value for _, value in promoted]), change.topk(5).values)
    torch.testing.assert_close(torch.tensor([value for _, value in suppressed]), -(-change).topk(5).values)
