"""GGUF files against the same model as a safetensors folder; what cannot be opened rightly is a sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import SMALL, Abench
from gguf import GGMLQuantizationType as Kind
from gguf_writing import CHAT, KINDS, build_llama, build_small, build_words, write_gguf
from safetensors import safe_open

from abench import LanguageModel, UserError
from abench.lm.catalogue import (
    absent_weights,
    fetched_commit,
    find_model,
    local_commit,
    recorded,
    weights_folder,
)
from abench.lm.gguf_files import examine_gguf

TEXTS = [
    "the cat sat",
    "  two spaces before 7, two  before  12  and after  ",
    "lines\n\n\nand\ttabs \n 3",
    "1999 12345 3.14 ½ ②",
    "naïve café — 日本語, Ελληνικά, 🙂",
    "it's we'll THEY'RE 's",
    "<bos>the dog<eos>",
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(file: Path) -> LanguageModel:
    return LanguageModel.load(weights_folder(find_model(str(file))[1]), name="gguf")


def reference(folder: Path, model: Any, tokenizer: Any) -> LanguageModel:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return LanguageModel.load(folder, name="safetensors")


def test_a_file_in_float32_is_the_model_to_the_last_bit(tmp_path: Path, cache: Path) -> None:
    model, words = build_llama(), build_words("smollm")
    wanted = reference(tmp_path / "folder", model, words)
    lm = opened(write_gguf(tmp_path / "m.gguf", model, words, rule="smollm"))
    tokens = torch.arange(60).reshape(2, 30)
    assert torch.equal(lm.logits(tokens), wanted.logits(tokens))
    assert lm.token_ids(TEXTS) == wanted.token_ids(TEXTS)
    assert (lm.bos_id, lm.special_ids, lm.max_context) == (wanted.bos_id, wanted.special_ids, 64)
    assert lm.tokenizer.pad_token == "<pad>"
    messages = [{"role": "user", "content": "hello 12"}]
    chats = [
        each.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for each in (lm, wanted)
    ]
    assert chats[0] == chats[1] == "<bos>user\nhello 12<eos>\n<bos>assistant\n"
    assert lm.generate(["the cat"], max_new_tokens=5) == wanted.generate(["the cat"], max_new_tokens=5)
    assert lm.model.generation_config.eos_token_id == 0
    assert lm.model.dtype == torch.float32
    (folder,) = [path for path in (cache / "models").iterdir() if path.is_dir()]
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert {p.suffix for p in folder.iterdir()} == {".json", ".jinja", ".safetensors"}


@pytest.mark.parametrize("architecture", [each for each in KINDS if each != "llama"])
def test_other_architectures_are_the_same_model_too(tmp_path: Path, architecture: str) -> None:
    model, rule = build_small(architecture), RULES.get(architecture, "smollm")
    words, pieces = build_words(rule), ("▁the", "▁", "e") if architecture == "gemma2" else ()
    file = write_gguf(tmp_path / "m.gguf", model, words, architecture=architecture, rule=rule, pieces=pieces)
    lm = opened(file)
    tokens = torch.arange(60).reshape(2, 30)
    assert torch.allclose(lm.logits(tokens), model(input_ids=tokens).logits, atol=1e-4)
    assert lm.model.config.model_type == model.config.model_type
    if not pieces:
        assert lm.token_ids(TEXTS) == words(TEXTS, add_special_tokens=False)["input_ids"]


RULES = {"qwen2": "qwen2", "qwen3": "qwen2"}
"""Architecture -> the only rule that transformers has for its tokenizer."""


def test_a_tokenizer_that_transformers_would_read_otherwise_is_one_sentence(tmp_path: Path) -> None:
    file = write_gguf(
        tmp_path / "m.gguf", build_small("qwen2"), build_words("smollm"), architecture="qwen2", rule="smollm"
    )
    with pytest.raises(UserError, match=r"m\.gguf with other rules than the file states \('smollm'\)"):
        opened(file)


@pytest.mark.parametrize("rule", ["gpt-2", "smollm", "llama-bpe"])
def test_text_is_divided_as_the_file_states(tmp_path: Path, rule: str) -> None:
    words = build_words(rule)
    lm = opened(write_gguf(tmp_path / "m.gguf", build_llama(), words, rule=rule))
    ids = [words(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert lm.token_ids(TEXTS) == ids
    # The rules do not agree on these texts, so that the test can tell them apart.
    other = build_words("smollm" if rule == "gpt-2" else "gpt-2").backend_tokenizer.pre_tokenizer
    words.backend_tokenizer.pre_tokenizer = other
    assert ids != [words(text, add_special_tokens=False)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize(("kind", "largest"), [(Kind.F16, 2e-3), (Kind.Q8_0, 0.01), (Kind.Q4_1, 0.1)])
def test_quantised_weights_are_near_the_model_s(tmp_path: Path, kind: Kind, largest: float) -> None:
    model, words = build_llama(), build_words("gpt-2")
    file = write_gguf(tmp_path / "m.gguf", model, words, kind=kind)
    lm = opened(file)
    for name, weights in model.state_dict().items():
        error = (lm.model.state_dict()[name] - weights).abs().max() / weights.abs().max()
        assert error < largest, name
    tokens = torch.arange(30)[None]
    exact = model(input_ids=tokens).logits
    assert (lm.logits(tokens) - exact).norm() / exact.norm() < 5 * largest


def test_tied_embeddings_stay_tied_and_are_stored_once(tmp_path: Path) -> None:
    model, words = build_llama(tied=True), build_words("gpt-2")
    config = find_model(str(write_gguf(tmp_path / "m.gguf", model, words, kind=Kind.Q8_0)))[1]
    folder = weights_folder(config)
    lm = LanguageModel.load(folder, name="tied")
    assert lm.model.lm_head.weight.data_ptr() == lm.model.get_input_embeddings().weight.data_ptr()
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        assert "lm_head.weight" not in tensors.keys()  # noqa: SIM118 - not a mapping


def test_replies_end_at_the_end_of_a_turn_too(tmp_path: Path) -> None:
    file = write_gguf(
        tmp_path / "m.gguf", build_llama(), build_words("gpt-2"), metadata={"tokenizer.ggml.eot_token_id": 1}
    )
    assert opened(file).model.generation_config.eos_token_id == [0, 1]


@pytest.mark.parametrize(("before", "first"), [(True, "▁a"), (False, "a")])
def test_a_sentencepiece_file_says_whether_a_space_comes_before_text(
    tmp_path: Path, before: bool, first: str
) -> None:
    file = write_gguf(
        tmp_path / "m.gguf",
        build_llama(),
        None,
        pieces=("▁a", "▁b", "▁", "a", "b"),
        metadata={"tokenizer.ggml.add_space_prefix": before},
    )
    lm = opened(file)
    ids = lm.token_ids(["a b", "é"])
    assert lm.tokenizer.convert_ids_to_tokens(ids[0]) == [first, "▁b"]
    assert lm.tokenizer.convert_ids_to_tokens(ids[1])[-2:] == ["<0xC3>", "<0xA9>"]
    assert [lm.tokenizer.decode(row) for row in ids] == ["a b", "é"]


def test_a_gguf_file_is_converted_once_and_known_by_its_content(tmp_path: Path, cache: Path) -> None:
    file = write_gguf(tmp_path / "A model.gguf", build_llama(), build_words("gpt-2"))
    name, config = find_model(str(file))
    assert (name.startswith("A-model-"), config.n_layers, config.d_model, config.k) == (True, 2, 32, (3,))
    commit = local_commit(config)
    assert not cache.exists()
    assert absent_weights(config) is None
    assert fetched_commit(config) == commit == local_commit(config)
    folder = weights_folder(config)
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    copy = shutil.copy(file, tmp_path / "other.gguf")
    assert weights_folder(find_model(str(copy))[1]) == folder
    assert fetched_commit(find_model(str(copy))[1]) == commit
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert recorded(config)["weights"] == str(file.resolve())
    changed = write_gguf(tmp_path / "changed.gguf", build_llama(seed=1), build_words("gpt-2"))
    assert local_commit(find_model(str(changed))[1]) != commit


def flipped(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def with_another_file(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def without_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize("damage", [flipped, without_template, with_another_file, without_manifest])
def test_a_damaged_conversion_is_noticed_and_made_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    from abench.lm.catalogue import commit_of

    config = find_model(str(write_gguf(tmp_path / "m.gguf", build_llama(), build_words("gpt-2"))))[1]
    commit = fetched_commit(config)
    folder = weights_folder(config)
    damage(folder)
    with pytest.raises(UserError, match=r"is damaged .*: type the same command again") as caught:
        commit_of(config, folder)
    assert "\n" not in str(caught.value)
    assert fetched_commit(config) == commit == commit_of(config, folder)


@pytest.mark.slow
def test_a_run_on_a_gguf_file_and_its_latents(abench: Abench, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", build_llama(), build_words("gpt-2"), kind=Kind.Q8_0)
    command = (
        *("--model", file, "--name", "m", "--variants", "topk", "--k", "4", *SMALL),
        *("--set", "data.source=tinyworld", "--set", "data.dataset=null", "--set", "context=32"),
        *("--results", tmp_path / "results"),
    )
    planned = abench("run", "--dry-run", *command)
    assert planned.code == 0, planned.err
    assert "not on this machine" not in planned.out
    first = abench("run", *command)
    assert first.code == 0, first.err
    assert "Converting" in first.err
    again = abench("run", *command)
    assert "0 cells computed, 1 from the results folder" in again.out
    assert "Converting" not in again.err
    sae = next((tmp_path / "results" / "saes").glob("*/*/*/sae.json")).parent
    shown = abench("show", sae, "--latent", "0", "--tokens", "640")
    assert shown.code == 0, shown.err
    file.unlink()
    gone = abench("show", sae, "--latent", "0", "--tokens", "640")
    assert (gone.code, "does not exist: give its new location" in gone.err) == (2, True)


def plain(file: Path, **more: Any) -> Path:
    return write_gguf(file, build_llama(), build_words("gpt-2"), **more)


def named(file: Path, architecture: str) -> Path:
    return plain(file, architecture=architecture, known_architecture="llama")


def cut(file: Path, share: float) -> Path:
    content = plain(file).read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    return file


def foreign(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


FACTORS = {"rope_freqs.weight": np.ones(4, dtype=np.float32)}
UNUSED = {"blk.0.attn_q.bias": np.ones(32, dtype=np.float32)}
LINEAR = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
NO_NORM = {"llama.block_count": 3}

WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty": (lambda file: foreign(file, b""), "is not a GGUF file"),
    "another format": (lambda file: foreign(file, b"PK\3\4" * 100), "is not a GGUF file"),
    "another version": (lambda file: foreign(file, b"GGUF" + b"\x63\0\0\0" + bytes(100)), "cannot be read"),
    "cut in the metadata": (lambda file: cut(file, 0.02), "damaged, cut off"),
    "cut in the weights": (lambda file: cut(file, 0.6), "damaged, cut off"),
    "unknown architecture": (lambda file: named(file, "llamb"), "architecture llamb is not supported"),
    "an encoder": (lambda file: named(file, "bert"), "architecture bert is not supported"),
    "unknown quantisation": (lambda file: plain(file, raw_kind=Kind.Q8_K), "have the type Q8_K, which"),
    "unknown rule": (lambda file: plain(file, rule="klingon"), "divides text by the rule 'klingon'"),
    "scaled positions": (lambda file: plain(file, metadata=LINEAR), "scales its positions"),
    "factors of positions": (lambda file: plain(file, tensors=FACTORS), "(rope_freqs.weight)"),
    "one of several parts": (lambda file: plain(file, metadata={"split.count": 2}), "one of 2 parts"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_cannot_be_opened_is_one_sentence(
    abench: Abench, tmp_path: Path, cache: Path, case: str
) -> None:
    make, sentence = WRONG[case]
    file = make(tmp_path / "m.gguf")
    ran = abench("run", "--model", file, "--dry-run", "--results", tmp_path / "results")
    assert ran.code == 2, ran.out + ran.err
    assert sentence in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not cache.exists()


def test_a_weight_that_the_model_has_no_place_for_is_not_dropped(tmp_path: Path, cache: Path) -> None:
    config = find_model(str(plain(tmp_path / "m.gguf", tensors=UNUSED)))[1]
    with pytest.raises(UserError, match="weights, but the model that transformers makes of it has"):
        fetched_commit(config)
    assert [path for path in (cache / "models").iterdir() if path.is_dir()] == []


def test_a_weight_that_the_file_lacks_is_one_sentence(tmp_path: Path) -> None:
    model = build_llama()
    del model.model.layers[1].mlp.up_proj
    config = find_model(str(write_gguf(tmp_path / "m.gguf", model, build_words("gpt-2"))))[1]
    with pytest.raises(UserError, match=r"mlp\.up_proj\.weight is missing") as caught:
        fetched_commit(config)
    assert str(tmp_path / "m.gguf") in str(caught.value)


def test_files_next_to_a_gguf_file_are_not_read(tmp_path: Path) -> None:
    reference(tmp_path, build_llama(seed=3), build_words("llama-bpe"))
    file = plain(tmp_path / "m.gguf")
    ids = [build_words("gpt-2")(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    lm = opened(file)
    assert lm.token_ids(TEXTS) == ids
    assert torch.equal(lm.model.lm_head.weight, build_llama().lm_head.weight)


def test_a_missing_file_is_one_sentence(abench: Abench, tmp_path: Path) -> None:
    for name in ("nowhere.gguf", "a/nowhere.gguf", tmp_path / "nowhere.gguf"):
        ran = abench("run", "--model", name)
        assert (ran.code, "nowhere.gguf' does not exist" in ran.err) == (2, True)


def test_a_model_without_a_chat_template_that_is_asked_for_chats_is_one_sentence(tmp_path: Path) -> None:
    from abench.tasks.unlearning import Unlearning

    lm = opened(plain(tmp_path / "m.gguf", chat=None))
    assert lm.tokenizer.chat_template is None
    task = Unlearning(prompt="chat")
    with pytest.raises(UserError, match="the tokenizer of gguf has no chat template; set prompt=plain"):
        task._form(lm, _Elsewhere())


class _Elsewhere:
    """The part of a task's context that the form of its prompts depends on: not the tiny world."""

    class data:  # noqa: N801
        source = "hub"


def test_the_facts_of_a_file_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = plain(tmp_path / "m.gguf")
    facts = examine_gguf(file)
    assert (facts.rule, facts.stops, CHAT != "") == ("gpt-2", (0,), True)
    monkeypatch.setattr("abench.lm.gguf_files._reader", None)
    assert examine_gguf(file) is facts
