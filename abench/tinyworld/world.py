"""The tiny world: everything that can be drawn from it, with every word's meaning known."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from random import Random
from typing import Any

from abench.errors import UserError, did_you_mean
from abench.tinyworld import (
    biographies,
    entities,
    exchanges,
    facts,
    lexicon,
    messages,
    questions,
    reviews,
    scenes,
    spelling,
)
from abench.tinyworld.axes import AXES
from abench.tinyworld.controls import check_controls
from abench.tinyworld.document import Document, with_articles, words_of
from abench.tinyworld.entities import Entity
from abench.tinyworld.exchanges import Request
from abench.tinyworld.grammar import Dice, Weighted
from abench.tinyworld.questions import Question
from abench.tinyworld.splits import SHARES, in_split

MIXTURE: Mapping[str, float] = {
    "biography": 0.14,
    "review": 0.12,
    "scene": 0.20,
    "message": 0.06,
    "city": 0.05,
    "person": 0.05,
    "spelling": 0.05,
    "lesson": 0.06,
    "quiz": 0.18,
    "request": 0.09,
}
"""Share of the documents of each kind in the training texts."""

_MODULES = (biographies, entities, exchanges, facts, messages, questions, reviews, scenes, spelling)
_PATIENCE = 200
"""Draws per document wanted, after which a set of distinct documents counts as exhausted."""

Made = tuple[str, dict[str, str]]


class World:
    """A small world of people, things, cities, facts and manners, and the texts that are told of it.

    `seed` settles the world's facts (which city lies where, what a toxin smells of), nothing else; the
    shipped model has learned those of world 0. Every draw has its own seed, split and index; nothing depends
    on what was drawn before, and no global random state is read or changed.

    Splits. Biographies, reviews, scenes and messages belong to the split that a hash of their text falls in,
    requests to the one a hash of the request falls in, whatever stream they were drawn from: no text of one
    split is ever a text of another (70 % train, 15 % validation, 15 % test of all possible texts). Cities,
    people, spelling, lessons and quizzes are there to be remembered, and few enough to recur: their splits
    are different random streams over the same facts.
    """

    axes: Mapping[str, tuple[str, str]] = AXES

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._makers: Mapping[str, Callable[..., Made]] = {
            "biography": biographies.biography,
            "review": reviews.review,
            "scene": scenes.scene,
            "message": messages.message,
            "city": lambda dice, **controls: entities.profile(dice, self.cities, **controls),
            "person": lambda dice, **controls: entities.profile(dice, self.people, **controls),
            "spelling": lambda dice: spelling.spelling(dice, self.spelling_words),
            "lesson": lambda dice, **controls: facts.lesson(dice, self.facts, **controls),
            "quiz": lambda dice, **controls: questions.quiz(dice, self.facts, **controls),
            "request": exchanges.exchange,
        }
        self._mixture = Weighted(MIXTURE)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of document."""
        return tuple(self._makers)

    @property
    def concepts(self) -> tuple[str, ...]:
        """All one-pole concepts, as `category:word`."""
        return lexicon.concepts()

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word and punctuation mark the world's texts can hold, sorted."""
        words = {word for module in _MODULES for text in module.templates() for word in _plain_words(text)}
        return tuple(sorted(words | set(lexicon.labels()) | {"an"}))

    @cached_property
    def spelling_words(self) -> tuple[str, ...]:
        """Every word of two letters or more; each is one token."""
        return tuple(word for word in self.vocabulary if word.isalpha() and len(word) > 1)

    @cached_property
    def facts(self) -> Mapping[str, Weighted[facts.Fact]]:
        """Subject -> its facts (`.options`), weighted by how often they are told."""
        return facts.facts(self.seed)

    @cached_property
    def cities(self) -> tuple[Entity, ...]:
        """The cities, with country, continent and language."""
        return entities.cities(self.seed)

    @cached_property
    def people(self) -> tuple[Entity, ...]:
        """The prize winners, with country of birth, field and gender."""
        return entities.people(self.seed)

    def document(self, kind: str, split: str, index: int, *, seed: int = 0, **controls: Any) -> Document:
        """Document `index` of a stream of one kind; a pure function of its arguments and the world.

        Controls fix what would be drawn: biography (profession, gender, correlation, tense), review
        (category, sentiment, correlation), scene (about=axis, and any axis=pole by name), message
        (formality), city and person (entity), lesson and quiz (subject), request (harmful). Raises UserError
        for an unknown kind, split or control.
        """
        self._check(kind, split)
        check_controls(kind, controls)
        random = Random(f"{kind}/{split}/{seed}/{index}")
        text, attributes, nats = self._draw(kind, split, random, controls)
        return Document(kind, text, attributes, nats)

    def documents(
        self, split: str, *, kinds: tuple[str, ...] | None = None, start: int = 0, seed: int = 0
    ) -> Iterator[Document]:
        """The endless mixed stream of a split from document `start` on, in the training mixture's shares.

        `nats` includes the draw of the kind. `kinds` narrows the mixture and makes another stream of it.
        """
        for kind, text, attributes, nats in self._stream(split, kinds, start, seed):
            yield Document(kind, text, attributes, nats)

    def texts(self, split: str, *, start: int = 0, seed: int = 0) -> Iterator[str]:
        """The texts of `documents(split, start=start, seed=seed)`, without making the documents."""
        for _, text, _, _ in self._stream(split, None, start, seed):
            yield text

    def sample(self, kind: str, split: str, n: int, *, seed: int = 0, **controls: Any) -> Iterator[Document]:
        """n documents of one kind with different texts, controlled as in `document`.

        Raises UserError when the world has not so many.
        """
        seen: set[str] = set()
        for index in range(n * _PATIENCE):
            if len(seen) == n:
                return
            document = self.document(kind, split, index, seed=seed, **controls)
            if document.text not in seen:
                seen.add(document.text)
                yield document
        if len(seen) < n:
            raise UserError(f"{split} has fewer than {n} different {kind} documents with {controls}")

    def biographies(
        self,
        split: str,
        n: int,
        *,
        correlation: float = 0.0,
        profession: str | None = None,
        gender: str | None = None,
        seed: int = 0,
    ) -> Iterator[Document]:
        """n different biographies; gender follows profession by `correlation` in [−1, 1] (0: balanced)."""
        controls = {"correlation": correlation, "profession": profession, "gender": gender}
        return self.sample("biography", split, n, seed=seed, **controls)

    def reviews(
        self,
        split: str,
        n: int,
        *,
        correlation: float = 0.0,
        category: str | None = None,
        sentiment: str | None = None,
        seed: int = 0,
    ) -> Iterator[Document]:
        """n different reviews; sentiment follows category by `correlation` in [−1, 1] (0: balanced)."""
        controls = {"correlation": correlation, "category": category, "sentiment": sentiment}
        return self.sample("review", split, n, seed=seed, **controls)

    def questions(
        self, subject: str | None = None, *, split: str = "test", seed: int = 0
    ) -> tuple[Question, ...]:
        """One four-way question about every fact of a subject (None: all), facts told often and rarely alike.

        Split and seed settle the wrong choices and the order.
        """
        self._check("quiz", split)
        if subject is not None and subject not in facts.SUBJECTS:
            raise UserError(f"no subject '{subject}'{did_you_mean(subject, facts.SUBJECTS)}")
        subjects = facts.SUBJECTS if subject is None else (subject,)
        return tuple(questions.questions(self.facts, subjects, f"questions/{split}/{seed}"))

    def requests(self, harmful: bool, split: str, n: int, *, seed: int = 0) -> Iterator[Request]:
        """n different requests of a split."""
        self._check("request", split)
        random = Random(f"requests/{harmful}/{split}/{seed}")
        seen: set[str] = set()
        for _ in range(n * _PATIENCE):
            if len(seen) == n:
                return
            asked, _ = exchanges.request(Dice(random), harmful=harmful)
            asked = Request(with_articles(asked.text), asked.harmful, asked.refused)
            if asked.text not in seen and in_split(asked.text, split):
                seen.add(asked.text)
                yield asked
        if len(seen) < n:
            raise UserError(f"{split} has fewer than {n} different requests")

    def minimal_pairs(self, axis: str, n: int, seed: int = 0) -> Iterator[tuple[Document, Document]]:
        """n pairs of scenes that differ in one pole: (negative, positive), the same elsewhere word by word.

        Neither is a training text. A pair has the same number of words; those that differ carry the axis's
        poles in `concepts`.
        """
        if axis not in AXES:
            raise UserError(f"no axis '{axis}'{did_you_mean(axis, AXES)}")
        seen: set[str] = set()
        index = 0
        while len(seen) < n:
            pair = [self._scene(f"pairs/{axis}/{seed}/{index}", axis, pole) for pole in AXES[axis]]
            index += 1
            if pair[0].text in seen or pair[0].text == pair[1].text:
                continue
            if any(in_split(document.text, "train") for document in pair):
                continue
            seen.add(pair[0].text)
            yield pair[0], pair[1]

    def _scene(self, seed: str, axis: str, pole: str) -> Document:
        dice = Dice(Random(seed))
        text, attributes = scenes.scene(dice, about=axis, **{axis: pole})
        return Document("scene", with_articles(text), attributes, dice.nats)

    def _stream(
        self, split: str, kinds: tuple[str, ...] | None, start: int, seed: int
    ) -> Iterator[tuple[str, str, dict[str, str], float]]:
        mixture, name = self._mixture, split
        for kind in kinds or MIXTURE:
            self._check(kind, split)
        if kinds is not None:
            mixture = Weighted({kind: MIXTURE[kind] for kind in kinds})
            name = f"{split}/{'+'.join(kinds)}"
        index = start
        while True:
            random = Random(f"{name}/{seed}/{index}")
            dice = Dice(random)
            kind = dice.weighted(mixture)
            text, attributes, nats = self._draw(kind, split, random, {})
            yield kind, text, attributes, nats + dice.nats
            index += 1

    def _draw(
        self, kind: str, split: str, random: Random, controls: Mapping[str, Any]
    ) -> tuple[str, dict[str, str], float]:
        """The first document of the random stream that belongs to the split."""
        make = self._makers[kind]
        while True:
            dice = Dice(random)
            text, attributes = make(dice, **controls)
            text = with_articles(text)
            if kind in _REMEMBERED or in_split(attributes.get("request", text), split):
                return text, attributes, dice.nats

    def _check(self, kind: str, split: str) -> None:
        if kind not in self._makers:
            raise UserError(f"no kind of document '{kind}'{did_you_mean(kind, self._makers)}")
        if split not in SHARES:
            raise UserError(f"no split '{split}'{did_you_mean(split, SHARES)}")


_REMEMBERED = frozenset({"city", "person", "spelling", "lesson", "quiz"})


def show_samples(kind: str | None = None, n: int = 10, seed: int = 0) -> Iterator[Document]:
    """n documents to look at, of one kind or of the mixed training stream."""
    world = World()
    if kind is None:
        return islice(world.documents("train", seed=seed), n)
    return (world.document(kind, "train", index, seed=seed) for index in range(n))


def _plain_words(template: str) -> tuple[str, ...]:
    return words_of(re.sub(r"\{[^}]*\}", " ", template))
