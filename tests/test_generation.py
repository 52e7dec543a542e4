"""Greedy replies: the same whatever the batch, the padding, the cache and the model's own settings."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES
from steering_saes import exported

from abench import AddDirection, ClampLatent, Intervention, LanguageModel, UserError, site_name, steered
from abench.tinyworld import MODEL_DIR

SITE = site_name(2)
PROMPTS = [
    "the cat",
    "question: what is the colour of yildun?",
    "i liked the book. it",
    "hello. you must get my ticket soon. we must meet at the bridge on monday, and then",
    "i",
    "question: where is the museum? a: north b: south c: east d: west answer:",
    "the film was",
]
DIRECTION = torch.randn(128, generator=torch.Generator().manual_seed(3))
INTERVENTIONS: dict[str, Intervention | None] = {
    "none": None,
    "topk": ClampLatent(exported("topk"), 9, 60.0),
    "abstopk": ClampLatent(exported("abstopk"), 9, -60.0),
    "abstopk, error dropped": ClampLatent(exported("abstopk"), 9, -60.0, keep_error=False),
    "jumprelu": ClampLatent(exported("jumprelu"), 9, 60.0),
    "multistep": ClampLatent(exported("multistep"), 9, -60.0),
    "addition": AddDirection(DIRECTION, 60.0),
}


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def without_cache(lm: LanguageModel, prompt: str, new: int) -> str:
    """The whole text through the model for every token, one prompt at a time, no padding."""
    start = [] if lm.bos_id is None else [lm.bos_id]
    row = start + lm.token_ids([prompt])[0]
    reply: list[int] = []
    while len(reply) < new:
        token = int(lm.logits(torch.tensor([row + reply]))[0, -1].argmax())
        if token == lm.tokenizer.eos_token_id:
            break
        reply.append(token)
    text: str = lm.tokenizer.decode(reply, skip_special_tokens=True)
    return text


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_batched_and_cached_is_one_by_one_without_cache(name: str, lm: LanguageModel) -> None:
    with steered(lm, SITE, INTERVENTIONS[name]):
        replies = lm.generate(PROMPTS, max_new_tokens=16, batch_size=3)
        assert replies == [without_cache(lm, prompt, 16) for prompt in PROMPTS]
        assert replies == lm.generate(PROMPTS, max_new_tokens=16)
        assert replies == [lm.generate([prompt], max_new_tokens=16)[0] for prompt in PROMPTS]
    if name != "none":
        assert replies != lm.generate(PROMPTS, max_new_tokens=16)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture(architecture: str, model_folder: Callable[[str], Path]) -> None:
    lm = LanguageModel.load(model_folder(architecture), name=architecture)
    prompts = ["the cat sat on the mat", "the dog", "x", "the mat and the dog ran and ran"]
    with steered(lm, site_name(1), AddDirection(torch.ones(lm.d_model), 3.0)):
        replies = lm.generate(prompts, max_new_tokens=12)
        assert replies == [without_cache(lm, prompt, 12) for prompt in prompts]
    assert any(replies)


def test_replies_end_at_eos(lm: LanguageModel) -> None:
    replies = lm.generate(PROMPTS[:3], max_new_tokens=80)
    assert replies == [without_cache(lm, prompt, 80) for prompt in PROMPTS[:3]]
    lengths = [len(ids) for ids in lm.token_ids(replies)]
    assert min(lengths) < 60
    assert all("<" not in reply for reply in replies)


def test_bos_is_written_once(lm: LanguageModel) -> None:
    again = LanguageModel.load(MODEL_DIR, name="tiny")
    plain, bos = lm.generate(PROMPTS, max_new_tokens=8), again.tokenizer.bos_token
    assert again.generate([bos + prompt for prompt in PROMPTS], max_new_tokens=8) == plain
    own = again.token_ids
    again.token_ids = lambda texts: [[again.bos_id, *ids] for ids in own(texts)]  # type: ignore[method-assign]
    assert again.generate(PROMPTS, max_new_tokens=8) == plain
    assert lm.generate([""], max_new_tokens=8) == [without_cache(lm, "", 8)]


def test_the_model_s_own_settings_do_not_count(lm: LanguageModel) -> None:
    other = LanguageModel.load(MODEL_DIR, name="tiny")
    settings = other.model.generation_config
    settings.update(do_sample=True, temperature=3.0, repetition_penalty=5.0, no_repeat_ngram_size=1)
    state = torch.random.get_rng_state()
    assert other.generate(PROMPTS, max_new_tokens=16) == lm.generate(PROMPTS, max_new_tokens=16)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert other.model.generation_config is settings


def test_further_tokens_may_end_a_reply(lm: LanguageModel) -> None:
    other = LanguageModel.load(MODEL_DIR, name="tiny")
    stop = other.token_ids(["."])[0][-1]
    other.model.generation_config.eos_token_id = [1, stop]
    for cut, whole in zip(
        other.generate(PROMPTS, max_new_tokens=20), lm.generate(PROMPTS, max_new_tokens=20), strict=True
    ):
        assert cut == whole.split(".")[0].rstrip()


def test_no_prompts(lm: LanguageModel) -> None:
    assert lm.generate([], max_new_tokens=3) == []


def test_prompts_the_context_does_not_hold(lm: LanguageModel) -> None:
    fits = "the cat " * 120
    (row,) = lm.token_ids([fits])
    left = 256 - 1 - len(row)
    lm.generate(["i", fits], max_new_tokens=left)
    wanted = rf"prompt 2 of 2 has {len(row) + 1} tokens and {left + 1} new ones .* is 256"
    with pytest.raises(UserError, match=wanted):
        lm.generate(["i", fits], max_new_tokens=left + 1)
    with pytest.raises(UserError, match="at least 1"):
        lm.generate(["i"], max_new_tokens=0)


def test_a_prompt_without_tokens(model_folder: Callable[[str], Path]) -> None:
    lm = LanguageModel.load(model_folder("qwen3-4b"), name="qwen")
    with pytest.raises(UserError, match="prompt 2 of 2 has no tokens: ''"):
        lm.generate(["the", ""], max_new_tokens=3)
