"""The shipped model: loads like any other, does what its properties say; a small one trains reproducibly."""

import json
from dataclasses import replace
from itertools import islice

import pytest

from abench.errors import UserError
from abench.tinyworld import MODEL_DIR, Properties, Recipe, World, build, measure
from abench.tinyworld.properties import load
from abench.tinyworld.training import CONTEXT, new_model, train

TINY = Recipe(
    hidden=32, layers=1, heads=2, kv_heads=1, intermediate=64, batch=512, warmup=5, steps=40, lr=0.01
)


@pytest.fixture(scope="module")
def shipped():
    return load(MODEL_DIR)


@pytest.fixture(scope="module")
def record():
    return json.loads((MODEL_DIR / "properties.json").read_text(encoding="utf-8"))


def test_folder_is_ordinary_and_small():
    files = {path.name for path in MODEL_DIR.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= files
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) <= 10_000_000
    assert json.loads((MODEL_DIR / "config.json").read_text())["architectures"] == ["Qwen3ForCausalLM"]


def test_tokenizer_round_trip(shipped):
    tokenizer = shipped.tokenizer
    for document in islice(World().documents("test"), 500):
        encoded = tokenizer(document.text, return_offsets_mapping=True)
        ids = encoded["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert ids[0] == tokenizer.bos_token_id
        assert tuple(tokenizer.convert_ids_to_tokens(ids[1:])) == document.words
        assert tokenizer.decode(ids, skip_special_tokens=True) == document.text
        pieces = tuple(document.text[start:end] for start, end in encoded["offset_mapping"][1:])
        assert pieces == document.words


def test_tokenizer_knows_the_worlds_vocabulary(shipped):
    assert set(World().vocabulary) == set(shipped.tokenizer.get_vocab()) - set(
        shipped.tokenizer.all_special_tokens
    )
    assert shipped.tokenizer.decode(shipped.tokenizer("Mary sees the dog.")["input_ids"]).endswith(
        "mary sees the dog."
    )


def test_chat_template_is_the_texts_own(shipped):
    request = next(World().requests(True, "test", 1))
    messages = [{"role": "user", "content": request.text}]
    prompt = shipped.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == f"<bos>{request.prompt}"


def test_targets_are_met(record):
    properties = record["properties"]
    assert 0.70 <= properties["question_accuracy"]["value"] <= 0.95
    assert properties["order_robust"]["value"] >= 0.4
    assert 0.20 <= properties["refusal_harmful"]["value"] <= 0.60
    assert properties["refusal_harmless"]["value"] <= 0.02
    assert properties["first_letter"]["value"] >= 0.95
    assert properties["city_attributes"]["value"] >= 0.95
    assert properties["pronoun_agreement"]["value"] >= 0.99
    entropy = properties["cross_entropy"]
    assert entropy["model"] / entropy["generator"] <= 1.10


def test_record_says_how_it_was_made(record):
    assert record["tokens"] > 1_000_000
    assert {"torch", "transformers"} <= set(record["versions"])
    assert record["parameters"] > 500_000
    assert {"seed", "recipe", "seconds", "threads", "final_loss"} <= set(record)


@pytest.mark.slow
def test_measuring_again_gives_the_same(record):
    again, kept = measure(MODEL_DIR, limit=100, seed=1), record["properties"]
    assert isinstance(again, Properties)
    for name in ("question_accuracy", "order_robust", "refusal_harmful"):
        assert getattr(again, name).value == pytest.approx(kept[name]["value"], abs=0.15)
    for name in ("first_letter", "city_attributes", "pronoun_agreement"):
        assert getattr(again, name).value == pytest.approx(kept[name]["value"], abs=0.03)
    for name in ("model", "generator"):
        assert getattr(again.cross_entropy, name) == pytest.approx(kept["cross_entropy"][name], rel=0.03)


@pytest.fixture
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_training_lowers_the_loss_and_is_reproducible_bit_for_bit(one_thread):
    import torch

    world, models, curves = World(), [], []
    for _ in range(2):
        models.append(new_model(world, TINY, seed=5))
        curves.append(train(models[-1], world, TINY, seed=5))
    assert sum(curves[0][-5:]) < 0.85 * sum(curves[0][:5])
    assert curves[0] == curves[1]
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_making_a_model_leaves_the_global_generator_alone():
    import torch

    before = torch.random.get_rng_state()
    new_model(World(), TINY, seed=5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_build_makes_a_loadable_folder(tmp_path, one_thread):
    steps = []
    recipe = replace(TINY, steps=3)
    properties = build(
        tmp_path / "model", recipe=recipe, limit=4, on_progress=lambda progress: steps.append(progress.step)
    )
    assert steps == [1, 2, 3]
    assert load(tmp_path / "model").model.config.max_position_embeddings == CONTEXT
    kept = json.loads((tmp_path / "model" / "properties.json").read_text(encoding="utf-8"))
    assert kept["properties"] == properties.as_dict()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_build_keeps_off_other_peoples_folders(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is not a model folder"):
        build(tmp_path)
    with pytest.raises(UserError, match="has no model"):
        measure(tmp_path)
