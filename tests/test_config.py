"""Configurations: every mistake is one sentence, every shipped file is valid, later sources win."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from abench.config import RunConfig, config_names, describe_run, load_run, model_config, run_groups
from abench.errors import UserError, did_you_mean
from abench.lm.catalogue import find_model


def mistake(tmp_path: Path, text: str) -> str:
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_run(str(file), {})
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("variant: [topk]", "run.yaml:1: unknown key 'variant'; did you mean 'variants'?"),
        ("training:\n  token: 5", "run.yaml:2: unknown key 'training.token'; did you mean 'tokens'?"),
        ("k: [0]", "k must be at least 1"),
        ("k: [-3, 4]", "k must be at least 1"),
        ("k: [8, 8]", "given more than once: 8"),
        ("seeds: [1, 2, 1]", "given more than once: 1"),
        ("seeds: [-1]", "seeds must be at least 0 (got -1)"),
        ("variants: [topk, topk]", "given more than once: topk"),
        ("variants: []", "at least one is needed"),
        ("width: 1", "run.yaml:1: width must be at least 2 (got 1)"),
        ("width: [64, 64]", "given more than once: 64"),
        ("name: ../etc", "name"),
        ("training:\n  tokens: 100\n  batch_size: 200", "tokens (100) must be at least one batch (200)"),
        ("training: {learning_rate: -1}", "training.learning_rate"),
        ("training: {warmup_fraction: 0.7, decay_fraction: 0.7}", "add up to more than 1"),
        ("training: {buffer_tokens: 10}", "buffer_tokens (10) must be at least one batch"),
        ("preset: tinny", "there is no preset 'tinny'; did you mean 'tiny'?"),
        ("dtype: float8", "dtype"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, sentence: str) -> None:
    message = mistake(tmp_path, text)
    assert sentence in message
    assert "Traceback" not in message
    assert "pydantic" not in message


def test_several_mistakes_are_several_sentences(tmp_path: Path) -> None:
    assert len(mistake(tmp_path, "variant: x\nlayer: 3\nk: [0]").splitlines()) == 3


def test_unknown_run_has_near_names() -> None:
    with pytest.raises(UserError, match="did you mean 'default'"):
        load_run("defualt", {})


def test_sources_win_in_order(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: tiny\ntraining: {learning_rate: 5e-4, tokens: 4096}\n")
    config = load_run(str(file), {"training.tokens": 8192}, ["training.betas=[0.8, 0.9]"])
    assert config.training.learning_rate == 5e-4  # the file's, over the preset's 1e-3
    assert config.training.tokens == 8192  # the option's, over the file's
    assert config.training.betas == (0.8, 0.9)  # the assignment's
    assert config.training.decay_fraction == 0.2  # the preset's, over the default's 0


def test_a_changed_default_run_does_not_describe_itself_as_the_default() -> None:
    assert load_run(None, {"model": None}).description
    assert not load_run(None, {"model": "synthetic"}).description


def test_preset_of_the_model_can_be_replaced() -> None:
    assert load_run(None, {"model": "qwen3-4b"}).training.batch_size == 4096
    assert load_run(None, {"model": "qwen3-4b", "preset": "paper-code"}).training.batch_size == 128


@pytest.mark.parametrize("assignment", ["tokens", "=3", "training.tokens.x=3"])
def test_bad_assignments(assignment: str) -> None:
    with pytest.raises(UserError):
        load_run(None, {"training.tokens": 10_000}, [assignment])


@pytest.mark.parametrize("name", config_names("runs"))
def test_every_shipped_run_is_valid(name: str) -> None:
    for member in (each for group in run_groups(name, {}) for each in group):
        assert load_run(member.source, {}).description


@pytest.mark.parametrize("preset", config_names("presets"))
def test_every_preset_is_valid(preset: str) -> None:
    assert load_run(None, {"preset": preset}).preset == preset


@pytest.mark.parametrize("name", config_names("models"))
def test_every_shipped_model_is_valid(name: str) -> None:
    config = model_config(name)
    assert all(0 <= layer < config.n_layers for layer in config.layers)
    assert all(0 < k < config.width_factor * config.d_model for k in config.k)
    assert config.preset in config_names("presets")


def test_the_paper_s_six_models_are_there() -> None:
    six = {"pythia-70m", "gpt2", "gemma-2-2b", "gemma-3-12b", "qwen3-4b", "llama-3.1-8b"}
    assert six <= set(config_names("models"))
    qwen = model_config("qwen3-4b")
    assert (qwen.layers, qwen.k, qwen.width_factor * qwen.d_model) == ((18, 20), (256,), 40_960)
    for name in six:
        # k = floor(d_model / 10) wherever the paper's value is known
        config = model_config(name)
        assert config.k == (config.d_model // 10,)


def test_a_hub_id_finds_its_shipped_configuration() -> None:
    assert find_model("Qwen/Qwen3-4B") == ("qwen3-4b", model_config("qwen3-4b"))


def test_unknown_model_has_near_names() -> None:
    with pytest.raises(UserError, match="unknown model 'qwen-4b'; did you mean 'qwen3-4b'"):
        find_model("qwen-4b")


def test_weights_that_cannot_be_had_are_one_sentence_that_says_how() -> None:
    from abench.lm.catalogue import weights_folder

    with pytest.raises(UserError) as caught:
        weights_folder(model_config("qwen3-4b"))
    message = str(caught.value)
    assert "Qwen/Qwen3-4B" in message
    assert "HF_TOKEN" in message
    assert "--model PATH" in message
    assert "\n" not in message


def test_specs_are_frozen() -> None:
    with pytest.raises(ValidationError):
        RunConfig().name = "other"


def test_did_you_mean_lists_what_is_known_when_nothing_is_near() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "; known: a, b"
    assert did_you_mean("zzz", []) == ""


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("name", "x" * 300, "--name: it has 300 characters, more than 100"),
        ("context", 2, "--context must be at least 3 (got 2)"),
        ("k", [4, 0], "item 2 of --k must be at least 1 (got 0)"),
        ("variants", ["topk", "topk"], "--variants: given more than once: topk"),
        ("unheard_of", 3, "--unheard_of: unknown key"),
        ("training", {"tokens": 0}, "--training: training.tokens must be at least 1 (got 0)"),
    ],
)
def test_an_option_s_name_is_not_followed_by_its_key(option: str, value: object, sentence: str) -> None:
    """Of a file the key is named: its line may hold several."""
    with pytest.raises(UserError) as caught:
        describe_run(None, {option: value}, named={option: f"--{option}"})
    assert str(caught.value).startswith(sentence)


def test_a_file_s_line_is_followed_by_the_key(tmp_path: Path) -> None:
    assert mistake(tmp_path, "name: a b").endswith(
        "run.yaml:1: name: 'a b' must consist of letters, digits, '.', '_' and '-', begin with a letter, a "
        "digit or '_', and not end with a dot"
    )
