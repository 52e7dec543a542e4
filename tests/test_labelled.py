"""Labelled texts of the tiny world, held against the world's own account of each text."""

from collections import Counter
from collections.abc import Mapping

import pytest
from abench.tasks._shared.labelled import Labelled, labelled, quadrants

from abench import Context, UserError
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import World


def context_of(*, seed: int = 0, limit: int | None = None) -> Context:
    data = DataSpec(source="tinyworld", dataset=None)
    return Context("blocks.2.hook_resid_post", EvaluationSpec(seed=seed, limit=limit), data, 128)


def attributes_of(kind: str, **controls: str) -> dict[str, Mapping[str, str]]:
    """Every text the tests can meet, with what the world says of it."""
    documents = (
        d for split in ("train", "test") for d in World().sample(kind, split, 400, seed=0, **controls)
    )
    return {d.text: d.attributes for d in documents}


def test_classes_are_balanced_in_their_second_attribute() -> None:
    data = labelled("tinyworld/biographies", context_of(), train=40, test=12)
    assert {len(texts) for texts in data.train.values()} == {20}
    assert {len(texts) for texts in data.test.values()} == {6}
    for profession, texts in data.train.items():
        known = attributes_of("biography", profession=profession, gender="male") | attributes_of(
            "biography", profession=profession, gender="female"
        )
        assert {known[text]["profession"] for text in texts} == {profession}
        assert Counter(known[text]["gender"] for text in texts) == {"male": 10, "female": 10}


def test_no_text_is_in_two_places() -> None:
    data = labelled("tinyworld/reviews", context_of(), train=40, test=40)
    texts = [text for half in (data.train, data.test) for each in half.values() for text in each]
    assert len(set(texts)) == len(texts)


def test_sentiment_is_spread_over_categories() -> None:
    data = labelled("tinyworld/reviews_sentiment", context_of(), train=200, test=8)
    known = attributes_of("review", sentiment="positive")
    categories = Counter(known[text]["category"] for text in data.train["positive"])
    assert len(categories) >= 5
    assert max(categories.values()) < 40


def test_corners_hold_what_they_say() -> None:
    data = quadrants("tinyworld/biographies", ("surgeon", "dentist"), context_of(), train=40, test=8)
    for (first, second), texts in data.train.items():
        known = attributes_of("biography", profession=data.classes[first], gender=data.values[second])
        assert len(texts) == (20 if first == second else 10)
        assert set(texts) <= set(known)
    sizes = {corner: len(texts) for corner, texts in data.test.items()}
    assert sizes == {(0, 0): 4, (0, 1): 2, (1, 0): 2, (1, 1): 4}


def test_the_seed_settles_the_texts() -> None:
    def drawn(seed: int) -> Labelled:
        return labelled("tinyworld/biographies", context_of(seed=seed), train=8, test=4)

    assert drawn(0) == drawn(0)
    assert drawn(0).train != drawn(1).train


@pytest.mark.parametrize(("limit", "each"), [(1, 2), (4, 2), (8, 4), (100, 10)])
def test_a_limit_cuts_and_leaves_every_class_its_share(limit: int, each: int) -> None:
    data = labelled("tinyworld/biographies", context_of(limit=limit), train=20, test=20)
    assert {len(texts) for half in (data.train, data.test) for texts in half.values()} == {each}
    pairs = quadrants(
        "tinyworld/biographies", ("surgeon", "dentist"), context_of(limit=limit), train=20, test=20
    )
    few = max(1, each // 2)
    assert {corner: len(texts) for corner, texts in pairs.train.items()} == {
        (0, 0): 2 * few,
        (0, 1): few,
        (1, 0): few,
        (1, 1): 2 * few,
    }


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"tinyworld/cities'; available are tinyworld/biographies, .*europarl"
    ):
        labelled("tinyworld/cities", context_of(), train=8, test=4)
    with pytest.raises(UserError, match="no second attribute"):
        quadrants("tinyworld/biographies_gender", ("male", "female"), context_of(), train=8, test=4)
