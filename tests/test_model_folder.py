"""Model folders: whatever is wrong with one is a sentence when planning, and what is right is opened."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import VOCABULARY, build_tokenizer
from command import Abench
from safetensors.torch import load_file, save_file

from abench import LanguageModel, UserError
from abench.lm import catalogue
from abench.lm.catalogue import find_model
from abench.lm.model_folder import Sizes, examine
from abench.lm.origins import folder_hash
from abench.runs import model_opening
from abench.runs.planner import RunRequest, plan_run

Folder = Callable[[str], Path]
Change = Callable[[Path], Any]
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(model_folder: Folder, tmp_path: Path) -> Path:
    """A copy of a small Llama's folder, to be damaged."""
    return Path(shutil.copytree(model_folder("llama-3.1-8b"), tmp_path / "llama"))


def config(**values: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def text(name: str, content: str, encoding: str = "utf-8") -> Change:
    return lambda folder: (folder / name).write_text(content, encoding=encoding)


def truncated(name: str) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:70])


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def write(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return write


def header(whole: bytes) -> Change:
    return lambda folder: (folder / WEIGHTS).write_bytes(len(whole).to_bytes(8, "little") + whole)


def sharded(index: str) -> Change:
    def change(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "model-1.safetensors")
        (folder / "model.safetensors.index.json").write_text(index)

    return change


def tokens(number: int) -> Change:
    def change(folder: Path) -> None:
        tokenizer = build_tokenizer(bos=True)
        tokenizer.add_tokens([f"word{each}" for each in range(VOCABULARY - len(tokenizer) + number)])
        tokenizer.save_pretrained(folder)

    return change


def with_bom(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + (folder / "config.json").read_bytes())


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


WRONG: dict[str, tuple[Change, str]] = {
    "config truncated": (truncated("config.json"), "config.json is not valid JSON"),
    "config empty": (text("config.json", ""), "config.json is not valid JSON"),
    "config a list": (text("config.json", "[]"), "config.json is not a JSON object, but list"),
    "config with BOM": (with_bom, "config.json is not valid JSON: Unexpected UTF-8 BOM"),
    "config in UTF-16": (text("config.json", "{}", "utf-16"), "config.json is not valid JSON"),
    "config nested": (text("config.json", "[" * 100_000), "nested too deeply"),
    "config with long numbers": (text("config.json", "9" * 5000), "config.json is not valid JSON"),
    "config without a model": (text("config.json", "{}"), "cannot be opened: Unrecognized model"),
    "text_config null": (text("config.json", '{"model_type": "gemma3", "text_config": null}'), "do not fit"),
    "unknown kind": (config(model_type="llamb"), "model type `llamb`"),
    "kind that is no name": (config(model_type=[]), "cannot be opened: transformers fails on a value"),
    "d_model negative": (config(hidden_size=-32), "does not state the number of layers"),
    "d_model a text": (config(hidden_size="32"), "Field 'hidden_size' expected int, got str"),
    "d_model null": (config(hidden_size=None), "Field 'hidden_size' expected int"),
    "d_model huge": (config(hidden_size=10**9), "do not fit its config.json"),
    "d_model beyond all": (config(hidden_size=10**30), "cannot be opened"),
    "no heads": (config(num_attention_heads=0), "transformers fails on a value in its files (ZeroDivision"),
    "heads that do not divide": (config(num_attention_heads=3), "not a multiple of the number of attention"),
    "no layers": (config(num_hidden_layers=0), "does not state the number of layers"),
    "layers without end": (config(num_hidden_layers=10**7), "10000000 layers, but its weights are only"),
    "a layer too few": (config(num_hidden_layers=3), "model.layers.3.input_layernorm.weight has no place"),
    "a layer too many": (config(num_hidden_layers=5), "model.layers.4.input_layernorm.weight is missing"),
    "unknown activation": (config(hidden_act="nope"), "(KeyError: 'nope')"),
    "smaller vocabulary": (config(vocab_size=10), "lm_head.weight is [300, 32], not [10, 32]"),
    "weights missing": (weights(lambda w: w.pop("model.layers.1.mlp.up_proj.weight")), "up_proj.weight is m"),
    "weights left over": (
        weights(lambda w: w.update({"model.layers.1.self_attn.q_proj.bias": torch.zeros(32)})),
        "q_proj.bias has no place in the model",
    ),
    "weights of another size": (
        weights(lambda w: w.update({"model.norm.weight": torch.zeros(7)})),
        "model.norm.weight is [7], not [32]",
    ),
    "weights under another name": (lambda f: (f / WEIGHTS).rename(f / "w.safetensors"), "no file named"),
    "header a list": (header(b"[]"), "model.safetensors is damaged"),
    "header without tensors": (header(b'{"a": 1}'), "model.safetensors is damaged"),
    "header of half a tensor": (header(b'{"a": {"data_offsets": [0]}}'), "model.safetensors is damaged"),
    "header endless": (lambda f: (f / WEIGHTS).write_bytes(b"\xff" * 64), "model.safetensors is damaged"),
    "header deep": (header(b"[" * 100_000), "model.safetensors is damaged"),
    "shard missing": (sharded('{"weight_map": {"a": "model-2.safetensors"}}'), "lacks model-2.safetensors"),
    "index a list": (sharded("[]"), "index.json is not a JSON object"),
    "index without names": (sharded('{"weight_map": {"a": 1}}'), "index.json is damaged"),
    "tokenizer truncated": (truncated("tokenizer.json"), "the tokenizer in"),
    "tokenizer empty": (text("tokenizer.json", "{}"), "the tokenizer in"),
    "tokenizer's config a list": (text("tokenizer_config.json", "[]"), "the tokenizer in"),
    "tokenizer gone": (without_tokenizer, "tokenizer"),
    "three tokens too many": (tokens(3), "'word23' has the id 302, but the model has embeddings for 300"),
    "stop tokens truncated": (truncated("generation_config.json"), "generation_config.json is not valid"),
    "stop tokens no numbers": (text("generation_config.json", '{"eos_token_id": "a"}'), "eos_token_id"),
    "an adapter": (text("adapter_config.json", "{}"), "holds an adapter"),
    "encoder-decoder": (text("config.json", '{"model_type": "t5"}'), "is an encoder-decoder"),
    "no language model": (text("config.json", '{"model_type": "vit"}'), "is of the kind 'vit'"),
}


@pytest.mark.parametrize(("change", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_sentence_when_planning_and_when_loading(
    folder: Path, change: Change, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    change(folder)
    capfd.readouterr()
    for use in (lambda: find_model(str(folder)), lambda: LanguageModel.load(folder, name="llama")):
        with pytest.raises(UserError) as raised:
            use()
        assert sentence in str(raised.value)
        assert str(folder) in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_a_sound_folder_is_opened_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    opened = []
    real = transformers.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM,
        "from_pretrained",
        lambda *a, **k: opened.append(k["device_map"]) or real(*a, **k),
    )
    assert examine(folder) == examine(folder) == Sizes(4, 32, 64)
    assert opened == ["meta"]
    (folder / "README.md").write_text("changed")
    examine(folder)
    assert opened == ["meta", "meta"]


def test_tied_embeddings_are_not_missing(model_folder: Folder) -> None:
    for architecture in ("gpt2", "gemma-2-2b"):
        assert "lm_head.weight" not in load_file(model_folder(architecture) / WEIGHTS)
        examine(model_folder(architecture))


def test_buffers_that_old_files_hold_are_no_weights(model_folder: Folder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder("pythia-70m"), tmp_path / "pythia"))
    mask = {"attention.bias": torch.ones(1, 1, 8, 8), "attention.rotary_emb.inv_freq": torch.ones(4)}
    weights(lambda w: w.update({f"gpt_neox.layers.0.{name}": each for name, each in mask.items()}))(folder)
    LanguageModel.load(folder, name="pythia")


# Code that a folder brings


def bring_code(folder: Path, kind: str) -> Path:
    """A folder whose configuration names code of its own, which leaves a file where it is run."""
    ran = folder.parent / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    names = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    config(model_type=kind, auto_map=names)(folder)
    return ran


def test_code_of_a_folder_is_refused_whatever_is_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, abench: Abench
) -> None:
    ran = bring_code(folder, "own")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    result = abench("run", "--model", folder, "--results", folder.parent / "results")
    assert result.code == 2
    assert "needs code that comes with it (auto_map), which abench does not run" in result.err
    assert len(result.err.splitlines()) == 1
    assert not ran.exists() and not (folder.parent / "results").exists()


def test_a_tokenizer_that_is_code_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = bring_code(folder, "llama")
    named = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(UserError, match=r"the tokenizer in .* needs code that comes with it"):
        find_model(str(folder))
    assert not ran.exists()


def test_where_transformers_has_the_architecture_its_own_code_is_used(folder: Path) -> None:
    ran = bring_code(folder, "llama")
    (folder / "custom_generate").mkdir()
    shutil.copy(folder / "own.py", folder / "custom_generate" / "generate.py")
    lm = LanguageModel.load(folder, name="llama")
    assert type(lm.model).__module__.startswith("transformers.models.llama")
    assert lm.generate(["the cat"], max_new_tokens=2)
    assert not ran.exists()


def test_data_sets_that_are_code_are_not_asked_about() -> None:
    import datasets

    from abench.data.loading import read_hub

    before = datasets.config.HF_DATASETS_TRUST_REMOTE_CODE
    try:
        datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = None  # asks on a terminal
        found = read_hub("me/mine", lambda: [datasets.config.HF_DATASETS_TRUST_REMOTE_CODE], lambda _: [])
    finally:
        datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = before
    assert found == [False]


# Names


@pytest.mark.parametrize("name", ["./llama", "/nowhere/llama", "~/nowhere", "a/b/c", "nowhere/", "..\\llama"])
def test_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError) as raised:
        find_model(name)
    assert str(raised.value).endswith("does not exist")
    assert str(raised.value).startswith("the model folder '")


def test_names_that_are_something_else(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    with pytest.raises(UserError, match=r"weights\.bin' is a file: give its folder, or a model's YAML file"):
        find_model(str(tmp_path / "weights.bin"))
    with pytest.raises(UserError, match="there is no local folder 'nobody/nothing', and the weights of"):
        find_model("nobody/nothing")
    for name in ("qwen-4b", "\0", "é" * 3000, "=1+1", ""):
        with pytest.raises(UserError, match="unknown model") as raised:
            find_model(name)
        assert len(str(raised.value)) < 600


def test_weights_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{title: M, weights: ./gone, n_layers: 2, d_model: 8, layers: [0], k: [2]}")
    with pytest.raises(UserError, match=r"the model folder '\./gone' does not exist"):
        catalogue.fetched_commit(find_model(str(file))[1])


# Contexts, keys, and folders that change


def plan(model: Path, *settings: str, fetch: bool = False) -> Any:
    options = {"model": str(model), "tasks": ("core",), "variants": ("topk",), "k": (4,), "width": (64,)}
    return plan_run(RunRequest(options=options, assignments=settings), fetch=fetch, say=print)


@pytest.mark.parametrize("fetch", [True, False])
@pytest.mark.parametrize("architecture", ["llama-3.1-8b", "gpt2", "gemma-3-12b"])
def test_a_context_beyond_the_positions(model_folder: Folder, architecture: str, fetch: bool) -> None:
    folder = model_folder(architecture)
    most = 64 if architecture != "gemma-3-12b" else examine(folder).max_context
    assert plan(folder, f"context={most}", fetch=fetch).model.context == most
    with pytest.raises(UserError, match=f"context = {most + 1} is too long: .* positions for {most} tokens"):
        plan(folder, f"context={most + 1}", fetch=fetch)


def test_the_bundled_model_has_an_end_too(abench: Abench) -> None:
    result = abench("run", "--dry-run", "--set", "context=1000000")
    assert result.code == 2
    assert "context = 1000000 is too long" in result.err


def test_without_a_context_a_folder_s_is_no_longer_than_its_positions(model_folder: Folder) -> None:
    assert plan(model_folder("gpt2")).model.context == 64


def slow_tokenizer(folder: Path) -> None:
    """GPT-2's tokenizer as its two oldest files."""
    from transformers import GPT2Tokenizer

    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    letters = [*"abcdefghijklmnopqrstuvwxyz", "Ġ", "<|endoftext|>", "th", "the", "ca"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    GPT2Tokenizer.from_pretrained(folder)


def test_every_file_that_opening_reads_is_in_the_key(model_folder: Folder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder("gpt2"), tmp_path / "gpt2"))
    slow_tokenizer(folder)
    before = plan(folder)
    ids = LanguageModel.load(folder, name="gpt2").token_ids(["the cat"])
    (folder / "merges.txt").write_text("#version: 0.2\nc a\n")
    after = plan(folder)
    assert LanguageModel.load(folder, name="gpt2").token_ids(["the cat"]) != ids
    assert before.cells[0].key != after.cells[0].key
    assert before.saes[0].key != after.saes[0].key
    keys = {after.cells[0].key}
    for name, content in {
        "generation_config.json": '{"eos_token_id": [0, 5]}',
        "chat_template.jinja": "{{ messages }}",
        "special_tokens_map.json": '{"eos_token": "the"}',
        "added_tokens.json": '{"extra": 40}',
    }.items():
        (folder / name).write_text(content)
        keys.add(plan(folder).cells[0].key)
    assert len(keys) == 5


def test_a_folder_that_changes_after_planning(folder: Path) -> None:
    planned = plan(folder)
    model_opening.open_planned(planned.model, "cpu")
    text("generation_config.json", '{"eos_token_id": 7}')(folder)
    with pytest.raises(UserError, match="llama has changed since this run was planned: run the same command"):
        model_opening.open_planned(planned.model, "cpu")
    assert folder_hash(folder) != planned.model.commit


def test_tokens_beyond_the_embedding_are_told_with_the_text(folder: Path) -> None:
    tokenizer = build_tokenizer(bos=True)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<image{n}>" for n in range(60)]})
    tokenizer.save_pretrained(folder)
    lm = LanguageModel.load(folder, name="llama")
    assert lm.token_ids(["the cat", ""])[1] == []
    with pytest.raises(
        UserError, match="a text contains the token '<image59>', which llama has no embedding for"
    ):
        lm.token_ids(["the cat <image59>"])


@pytest.mark.parametrize(("dtype", "advice"), [("float16", "dtype=bfloat16"), ("float32", "in float32")])
def test_what_to_do_about_an_overflow_depends_on_the_dtype(folder: Path, dtype: str, advice: str) -> None:
    from abench.config import DataSpec, TrainingSpec
    from abench.data.activations import ActivationStream

    weights(lambda w: w["model.embed_tokens.weight"].fill_(float("inf")))(folder)
    lm = LanguageModel.load(folder, name="llama", dtype=dtype)
    stream = ActivationStream(
        lm, "blocks.0.hook_resid_post", DataSpec(source="tinyworld"), TrainingSpec(), context=16
    )
    with pytest.raises(UserError, match="are not finite") as raised:
        stream.measure()
    assert advice in str(raised.value)
    assert ("float16" in str(raised.value).replace("bfloat16", "")) == (dtype == "float16")
