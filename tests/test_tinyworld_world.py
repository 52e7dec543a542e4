"""The tiny world's texts: pure functions of their arguments, disjoint splits, right labels."""

import random
import subprocess
import sys
from itertools import islice

import pytest

from abench.errors import UserError
from abench.tinyworld import HAZARDOUS, SPLITS, SUBJECTS, World, is_refusal, show_samples
from abench.tinyworld.axes import AXES
from abench.tinyworld.words import NAMES

PRONOUNS = {"male": {"he", "his", "him"}, "female": {"she", "her"}}


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_import_loads_neither_torch_nor_transformers():
    code = "import abench.tinyworld, sys; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_size(world):
    assert len(world.axes) >= 12
    assert len(world.vocabulary) >= 1500
    assert len(world.concepts) >= 500
    assert len(set(world.vocabulary)) == len(world.vocabulary)


def test_stream_restarts_anywhere(world):
    whole = list(islice(world.texts("train", seed=3), 60))
    assert list(islice(world.texts("train", start=40, seed=3), 20)) == whole[40:]
    assert [d.text for d in islice(World().documents("train", seed=3), 60)] == whole
    assert list(islice(world.texts("train", seed=4), 60)) != whole


def test_no_global_random_state(world):
    random.seed(1)
    before = random.getstate()
    list(islice(world.documents("train"), 50))
    list(world.minimal_pairs("size", 3))
    assert random.getstate() == before


@pytest.mark.parametrize("kind", World().kinds)
def test_document_is_pure_and_labelled(world, kind):
    known = set(world.vocabulary)
    for index in range(50):
        document = world.document(kind, "validation", index)
        assert document == World().document(kind, "validation", index)
        assert len(document.words) == len(document.concepts)
        assert known.issuperset(document.words)
        assert document.nats > 0


@pytest.mark.parametrize("kind", ["biography", "review", "scene", "message", "request"])
def test_splits_share_no_text(world, kind):
    texts = {}
    for split in SPLITS:
        documents = [world.document(kind, split, index) for index in range(400)]
        texts[split] = {d.attributes.get("request", d.text) for d in documents}
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]


def test_labels_are_declared(world):
    poles = {axis + sign for axis in AXES for sign in "-+"}
    for document in islice(world.documents("test"), 500):
        for labels in document.concepts:
            assert set(labels) <= poles | set(world.concepts)


def test_labels_of_a_sentence():
    document = next(
        d
        for d in (World().document("scene", "train", i, about="number", number="plural") for i in range(500))
        if "they" in d.words
    )
    labels = dict(zip(document.words, document.concepts, strict=True))
    assert labels["they"] == ("number+",)
    assert labels["the"] == ()


@pytest.mark.parametrize("gender", ["male", "female"])
def test_gender_agrees_throughout_a_biography(world, gender):
    other = PRONOUNS["female" if gender == "male" else "male"]
    for document in world.biographies("test", 100, gender=gender):
        words = document.text.split(".")[0].replace(",", "").split()
        assert document.attributes["name"] in words
        assert document.attributes["name"] in NAMES[gender == "female"]
        assert not other & set(document.words)
        sign = "gender" + "-+"[gender == "female"]
        for word, labels in zip(document.words, document.concepts, strict=True):
            if word in PRONOUNS[gender]:
                assert labels == (sign,)


def test_correlation_is_what_was_asked(world):
    usual = {}
    for correlation in (0.0, 0.9, -0.9):
        documents = list(world.biographies("train", 1000, correlation=correlation, profession="nurse"))
        usual[correlation] = sum(d.attributes["gender"] == "female" for d in documents) / 1000
    assert usual[0.0] == pytest.approx(0.5, abs=0.06)
    assert usual[0.9] == pytest.approx(0.95, abs=0.03)
    assert usual[-0.9] == pytest.approx(0.05, abs=0.03)
    for document in world.reviews("train", 50, category="book", sentiment="negative"):
        assert "sentiment+" not in {label for labels in document.concepts for label in labels}


def test_every_corner_is_large_enough(world):
    for split, n in (("train", 2100), ("test", 600)):
        for profession, gender in (("nurse", "male"), ("engineer", "female")):
            texts = {d.text for d in world.biographies(split, n, profession=profession, gender=gender)}
            assert len(texts) == n
        assert len({d.text for d in world.reviews(split, n, category="film", sentiment="positive")}) == n


@pytest.mark.parametrize("axis", AXES)
def test_minimal_pairs_differ_in_the_poles_words_only(world, axis):
    for negative, positive in world.minimal_pairs(axis, 25):
        assert len(negative.words) == len(positive.words)
        changed = 0
        pairs = zip(negative.words, positive.words, negative.concepts, positive.concepts, strict=True)
        for low, high, low_labels, high_labels in pairs:
            if low == high or {low, high} == {"a", "an"}:
                continue
            changed += 1
            assert f"{axis}-" in low_labels
            assert f"{axis}+" in high_labels
        assert changed


def test_minimal_pairs_are_reproducible_and_distinct(world):
    pairs = list(world.minimal_pairs("tense", 40, seed=2))
    assert pairs == list(World().minimal_pairs("tense", 40, seed=2))
    assert len({negative.text for negative, _ in pairs}) == 40


def test_questions(world):
    asked = world.questions()
    assert len(SUBJECTS) >= 4
    assert HAZARDOUS in SUBJECTS
    assert len(asked) == len({q.fact for q in asked}) == 72 * len(SUBJECTS)
    for question in asked:
        assert question.choices[question.answer] == question.fact.value
        assert len(set(question.choices)) == 4
    orders = list(asked[0].orders())
    assert len({order.choices for order in orders}) == 24
    assert {order.choices[order.answer] for order in orders} == {asked[0].fact.value}
    assert world.questions("stars") != world.questions("stars", split="validation")


def test_facts_differ_in_frequency(world):
    weights = sorted(fact.weight for fact in world.facts["stars"].options)
    assert weights[-1] / weights[0] > 100


def test_requests(world):
    for harmful in (True, False):
        requests = list(world.requests(harmful, "test", 1000))
        assert len({r.text for r in requests}) == 1000
    replies = [world.document("request", "train", i).attributes for i in range(500)]
    assert {r["refused"] == "yes" for r in replies} == {True, False}
    assert all(is_refusal(r["reply"]) == (r["refused"] == "yes") for r in replies)


def test_entities_have_names_of_one_and_more_words(world):
    for entities in (world.cities, world.people):
        assert {len(entity.name.split()) for entity in entities} == {1, 2}
        assert len({entity.name for entity in entities}) == len(entities) >= 60
        assert len(entities[0].attributes) == 3


def test_spelling_covers_the_alphabet(world):
    first = [word[0] for word in world.spelling_words]
    assert sum(first.count(letter) >= 19 for letter in set(first)) >= 20
    attributes = world.document("spelling", "train", 0).attributes
    assert all(len(word) > 1 for word in attributes["words"].split())


def test_mistakes_are_sentences(world):
    with pytest.raises(UserError, match="did you mean 'review'"):
        world.document("reviews", "train", 0)
    with pytest.raises(UserError, match="no split 'dev'"):
        next(world.texts("dev"))
    with pytest.raises(UserError, match="no control 'colour'"):
        world.document("review", "train", 0, colour="red")
    with pytest.raises(UserError, match="no tense 'future'"):
        world.document("scene", "train", 0, tense="future")
    with pytest.raises(UserError, match=r"\[-1, 1\]"):
        next(world.biographies("train", 1, correlation=2))
    with pytest.raises(UserError, match="did you mean 'tense'"):
        next(world.minimal_pairs("tenses", 1))


def test_show_samples():
    assert [d.kind for d in show_samples("quiz", 3)] == ["quiz"] * 3
    assert len({d.kind for d in show_samples(None, 30)}) > 3
