"""The tiny world, from which documents are drawn with the meaning of every word known."""

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
"""Draws per requested document after which a set of distinct documents counts as exhausted."""

Made = tuple[str, dict[str, str]]


class World:
    """A small world of people, things, cities and facts, and a generator of texts about it.

    `seed` determines only the world's facts (where a city lies, what a toxin smells of); the shipped model
    has learned the facts of world 0. Every draw has its own seed, split and index; nothing depends on earlier
    draws, and the global random state is neither read nor changed.

    Splits: a hash of the text assigns biographies, reviews, scenes and messages to a split, and a hash of the
    request assigns requests, independently of the stream. No text of one split is ever a text of another (70
    % train, 15 % validation, 15 % test of all possible texts). Cities, people, spelling, lessons and quizzes
    are meant to be memorised, and few enough to recur; their splits are different random streams over the
    same facts.
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
        """Every word and punctuation mark that can occur in the world's texts, sorted."""
        words = {word for module in _MODULES for text in module.templates() for word in _plain_words(text)}
        return tuple(sorted(words | set(lexicon.labels()) | {"an"}))

    @cached_property
    def spelling_words(self) -> tuple[str, ...]:
        """Every word of at least two letters; each is one token."""
        return tuple(word for word in self.vocabulary if word.isalpha() and len(word) > 1)

    @cached_property
    def facts(self) -> Mapping[str, Weighted[facts.Fact]]:
        """Subject -> its facts (`.options`), weighted by frequency."""
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

        Controls fix properties that would otherwise be drawn: biography (profession, gender, correlation,
        tense), review (category, sentiment, correlation), scene (about=axis, and any axis=pole by name),
        message (formality), city and person (entity), lesson and quiz (subject), request (harmful). Raises
        UserError for an unknown kind, split or control.
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

        `nats` includes the draw of the kind. `kinds` restricts the mixture, which gives another stream.
        """
        for kind, text, attributes, nats in self._stream(split, kinds, start, seed):
            yield Document(kind, text, attributes, nats)

    def texts(self, split: str, *, start: int = 0, seed: int = 0) -> Iterator[str]:
        """The texts of `documents(split, start=start, seed=seed)`, without making the documents."""
        for _, text, _, _ in self._stream(split, None, start, seed):
            yield text

    def sample(self, kind: str, split: str, n: int, *, seed: int = 0, **controls: Any) -> Iterator[Document]:
        """n documents of one kind with distinct texts, controlled as in `document`.

        Raises UserError if the world has fewer.
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
            raise UserError(f"the split {split} has fewer than {n} distinct {kind} documents with {controls}")

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
        """n distinct biographies, with a `correlation` of gender and profession in [−1, 1] (0: balanced)."""
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
        """n distinct reviews, with a `correlation` of sentiment and category in [−1, 1] (0: balanced)."""
        controls = {"correlation": correlation, "category": category, "sentiment": sentiment}
        return self.sample("review", split, n, seed=seed, **controls)

    def questions(
        self, subject: str | None = None, *, split: str = "test", seed: int = 0
    ) -> tuple[Question, ...]:
        """One four-way question about every fact of a subject (None: all subjects), frequent or rare.

        Split and seed determine the wrong choices and the order.
        """
        self._check("quiz", split)
        if subject is not None and subject not in facts.SUBJECTS:
            raise UserError(f"there is no subject '{subject}'{did_you_mean(subject, facts.SUBJECTS)}")
        subjects = facts.SUBJECTS if subject is None else (subject,)
        return tuple(questions.questions(self.facts, subjects, f"questions/{split}/{seed}"))

    def requests(self, harmful: bool, split: str, n: int, *, seed: int = 0) -> Iterator[Request]:
        """n distinct requests of a split."""
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
            raise UserError(f"the split {split} has fewer than {n} distinct requests")

    def minimal_pairs(self, axis: str, n: int, seed: int = 0) -> Iterator[tuple[Document, Document]]:
        """n pairs of scenes (negative, positive) that differ only in one pole.

        Neither is a training text. Both scenes of a pair have the same number of words; the words that differ
        have the axis's poles in `concepts`.
        """
        if axis not in AXES:
            raise UserError(f"there is no axis '{axis}'{did_you_mean(axis, AXES)}")
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
            raise UserError(f"there is no kind of document '{kind}'{did_you_mean(kind, self._makers)}")
        if split not in SHARES:
            raise UserError(f"there is no split '{split}'{did_you_mean(split, SHARES)}")


_REMEMBERED = frozenset({"city", "person", "spelling", "lesson", "quiz"})


def show_samples(kind: str | None = None, n: int = 10, seed: int = 0) -> Iterator[Document]:
    """n sample documents, of one kind or from the mixed training stream."""
    world = World()
    if kind is None:
        return islice(world.documents("train", seed=seed), n)
    return (world.document(kind, "train", index, seed=seed) for index in range(n))


def _plain_words(template: str) -> tuple[str, ...]:
    return words_of(re.sub(r"\{[^}]*\}", " ", template))
