"""Words and prompts of the absorption task: which count, where they stand, what is read there."""

import random
from typing import Any

import pytest
import torch
from abench.tasks.absorption import Absorption
from abench.tasks.absorption.spelling import SAE_BENCH, TINY, Word, candidates, positions, read, usable

from abench import Context, LanguageModel, Skip
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import MODEL_DIR, World

SITE = "blocks.1.hook_resid_post"
HUB = Context(SITE, EvaluationSpec(), DataSpec(source="hub"), 128)
TINY_DATA = Context(SITE, EvaluationSpec(), DataSpec(source="tinyworld", dataset=None), 128)
LINE = " has the first letter:"


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def byte_level(*, bos: bool) -> Any:
    """A byte-level tokenizer that knows some words, one of which (`dog`) its merges never make."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    merges = [("c", "a"), ("ca", "t"), ("Ġ", "cat"), ("e", "l"), ("el", "k"), ("Ġ", "elk"), ("o", "x")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<eos>", "<pad>", *(["<bos>"] if bos else [])]
    tokens = [*special, *alphabet, *(a + b for a, b in merges), "dog", "Ġdog"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = {"bos_token": "<bos>"} if bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", **named)


def llama(*, bos: bool, context: int = 1024) -> LanguageModel:
    """A small model with random weights around that tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_level(bos=bos)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=context, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LanguageModel(LlamaForCausalLM(config), tokenizer, name="llama")


@pytest.mark.parametrize("bos", [True, False])
def test_words_of_a_vocabulary_are_those_that_stay_one_token(bos: bool) -> None:
    lm = llama(bos=bos)
    every = candidates(lm, HUB)
    texts = [word.text for word in every]
    assert texts == sorted(texts)
    assert {"cat", " cat", "elk", " elk", "ox", "dog", " dog", "a", "Z"} <= set(texts)
    assert all(text.strip().isascii() and text.strip().isalpha() for text in texts)
    kept = {word.text for word in usable(lm, every, SAE_BENCH)}
    assert {"cat", " cat", "elk", " elk", "ox", "a", "Z"} <= kept
    assert not {"dog", " dog"} & kept
    assert next(word.letter for word in every if word.text == " elk") == 4


@pytest.mark.parametrize("bos", [True, False])
def test_what_is_read_is_the_residual_stream_at_the_words_own_token(bos: bool) -> None:
    """Read again one by one, from a prompt drawn alike, at the token before the constant ending."""
    lm = llama(bos=bos)
    words = [word for word in usable(lm, candidates(lm, HUB), SAE_BENCH) if word.text in {" cat", "elk", "a"}]
    found = read(lm, words, words, HUB, shots=2, dice=random.Random(5))
    assert found.words == tuple(words)
    dice = random.Random(5)
    ending = len(lm.token_ids([LINE])[0])
    for word, x in zip(words, found.residual, strict=True):
        examples = [e.text for e in dice.sample(words, 3) if e != word][:2]
        prompt = SAE_BENCH.prompt(word.text, examples)
        ids = [*([] if lm.bos_id is None else [lm.bos_id]), *lm.token_ids([prompt])[0]]
        assert ids[-ending - 1] == word.token
        alone = lm.residual(torch.tensor([ids]), SITE)[0, -ending - 1]
        torch.testing.assert_close(x, alone, atol=1e-5, rtol=1e-4)


def test_prompts_of_the_tiny_world_are_its_own(tiny: LanguageModel) -> None:
    every = candidates(tiny, TINY_DATA)
    assert [word.text for word in every] == sorted(World().spelling_words)
    assert usable(tiny, every, TINY) == every
    prompt = TINY.prompt("tiger", ["canoe", "snow"])
    assert (
        prompt == "canoe has the first letter: c. snow has the first letter: s. tiger has the first letter:"
    )
    # The model, asked so, says the letter.
    words = [word for word in every if word.text in {"tiger", "canoe", "snow", "bike"}]
    ids = [[tiny.bos_id, *tiny.token_ids([TINY.prompt(w.text, ["garlic", "wanda"])])[0]] for w in words]
    said = [tiny.tokenizer.decode(tiny.logits(torch.tensor([row]))[0, -1].argmax()) for row in ids]
    assert said == [word.text[0] for word in words]


def test_a_word_is_never_its_own_example(tiny: LanguageModel) -> None:
    words = candidates(tiny, TINY_DATA)[:4]
    drawn = []
    style_prompt = TINY.prompt

    class Noted(random.Random):
        def sample(self, population: Any, k: int, **more: Any) -> list[Any]:
            chosen = super().sample(population, k, **more)
            drawn.append((k, chosen))
            return chosen

    read(tiny, words, words, TINY_DATA, shots=3, dice=Noted(0))
    assert len(drawn) == 4
    for word, (k, chosen) in zip(words, drawn, strict=True):
        shown = [e.text for e in chosen if e != word][:3]
        assert k == 4
        assert len(shown) == 3
        assert style_prompt(word.text, shown).count(f"{word.text} has") == 1


@pytest.mark.parametrize(
    ("rows", "tokens", "expected"),
    [
        ([[1, 5, 8, 9], [1, 6, 8, 9]], [5, 6], [1, 1]),
        ([[1, 5, 8, 9], [1, 6, 8, 9], [1, 3, 4, 8, 9]], [5, 6, 7], [1, 1, None]),  # in two tokens
        ([[1, 5, 8, 9], [1, 6, 8, 9], [1, 8, 8, 9]], [5, 6, 8], [1, 1, 1]),  # a word of the ending
        ([[5, 8, 9], [1, 6, 8, 9], [8, 9]], [5, 6, 7], [0, 1, None]),  # nothing before the ending
        ([[1, 2], [3]], [7, 7], [None, None]),
        ([], [], []),
    ],
)
def test_places_of_tokens(rows: list[list[int]], tokens: list[int], expected: list[int | None]) -> None:
    assert positions(rows, tokens) == expected


def test_a_context_too_short_for_the_prompts_is_a_skip() -> None:
    for context in (8, 200):  # too short for one example, and for ten
        with pytest.raises(Skip, match=f"does not fit in the model's context of {context} tokens"):
            Absorption().prepare(llama(bos=True, context=context), HUB)


def test_a_vocabulary_without_words_is_a_skip() -> None:
    lm = llama(bos=True)
    lm.tokenizer.get_vocab = lambda: {"<eos>": 0, "1": 1, "Ġ": 2}
    with pytest.raises(Skip, match="0 words are too few: of the tokenizer's 0 single-token words"):
        Absorption().prepare(lm, HUB)


def test_a_model_that_knows_no_letters_is_a_skip() -> None:
    with pytest.raises(Skip, match="knows only"):
        Absorption(epochs=1).prepare(llama(bos=False), HUB)


def test_the_letter_of_a_word() -> None:
    assert [Word(text, 0).letter for text in ("apple", " Zoo", "x")] == [0, 25, 23]
