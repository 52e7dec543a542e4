"""The dice know how surprising their throws are."""

from collections.abc import Iterator
from itertools import product
from math import log
from random import Random

import pytest

from abench.tinyworld.bindings import base, poles
from abench.tinyworld.grammar import Dice, Weighted, fill

BINDINGS = {"who": ("the {colour} dog", "mary"), "colour": ("red", "blue", "green"), "verb": "sees"}
TEMPLATE = "{who} {verb} {who}"


def enumerate_texts(template: str) -> Iterator[tuple[str, float]]:
    """Every text of the small grammar with its probability, by brute force."""
    nouns = [("mary", 1 / 2), *((f"the {c} dog", 1 / 6) for c in BINDINGS["colour"])]
    for (one, p), (other, q) in product(nouns, nouns):
        yield f"{one} sees {other}", p * q


def test_recorded_surprise_is_the_texts_own():
    probabilities = dict(enumerate_texts(TEMPLATE))
    assert sum(probabilities.values()) == pytest.approx(1)
    random = Random(0)
    for _ in range(200):
        dice = Dice(random)
        text = fill(TEMPLATE, BINDINGS, dice)
        assert dice.nats == pytest.approx(-log(probabilities[text]))


def test_mean_surprise_is_the_entropy():
    entropy = -sum(p * log(p) for _, p in enumerate_texts(TEMPLATE))
    random, total = Random(1), 0.0
    for _ in range(5000):
        dice = Dice(random)
        fill(TEMPLATE, BINDINGS, dice)
        total += dice.nats
    assert total / 5000 == pytest.approx(entropy, rel=0.02)


def test_two_ways_to_one_text_make_it_an_upper_bound():
    dice = Dice(Random(2))
    assert fill("{x}", {"x": ("same", "same")}, dice) == "same"
    assert dice.nats == pytest.approx(log(2))


def test_weighted_draws_follow_their_weights():
    options = Weighted({"often": 3.0, "rarely": 1.0})
    random, counts = Random(3), {"often": 0, "rarely": 0}
    for _ in range(4000):
        dice = Dice(random)
        drawn = dice.weighted(options)
        counts[drawn] += 1
        assert dice.nats == pytest.approx(-log({"often": 0.75, "rarely": 0.25}[drawn]))
    assert counts["often"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_sample_counts_its_shrinking_choices():
    dice = Dice(Random(4))
    assert len(set(dice.sample("abcd", 3))) == 3
    assert dice.nats == pytest.approx(log(4 * 3 * 2))


def test_hits_count_the_number_only():
    random, counts = Random(6), [0, 0, 0]
    for _ in range(4000):
        dice = Dice(random)
        heads = dice.hits(2)
        counts[heads] += 1
        assert dice.nats == pytest.approx(-log((0.25, 0.5, 0.25)[heads]))
    assert counts[1] / 4000 == pytest.approx(0.5, abs=0.03)


def test_certain_choices_are_no_surprise():
    dice = Dice(Random(5))
    assert dice.chance(1.0)
    assert not dice.chance(0.0)
    assert dice.nats == 0


def test_verbs_agree_with_tense_and_number():
    assert base("past")["walks"] == "walked"
    assert base("present", "plural")["walks#"] == "walk"
    assert base("present", "plural")["walks"] == "walks"
    assert base("past", "plural")["is#"] == "were"
    assert poles("speed", "fast", "present", "plural")["speed.verb#"][0] == "race"
    assert poles("speed", "slow", "past")["speed.verb"][0] == "crawled"
