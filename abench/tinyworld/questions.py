"""Four-way questions about the facts, single or in sequences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from random import Random

from abench.tinyworld.facts import SUBJECTS, Fact
from abench.tinyworld.grammar import Dice, Weighted

LETTERS = ("a", "b", "c", "d")
"""The letters of the choices, which are also the answers."""

_LENGTHS = Weighted({1: 0.5, 2: 0.2, 3: 0.1, 4: 0.1, 5: 0.1})


@dataclass(frozen=True)
class Question:
    """A question about a fact, with four choices; `answer` is the index of the correct one."""

    fact: Fact
    choices: tuple[str, str, str, str]
    answer: int

    @property
    def subject(self) -> str:
        """The subject of the fact."""
        return self.fact.subject

    @property
    def prompt(self) -> str:
        """`question: …? a: … b: … c: … d: … answer:`; a letter follows."""
        return f"question: {self.fact.question} {_listed(self.choices)} answer:"

    @property
    def letter(self) -> str:
        """The letter of the correct choice."""
        return LETTERS[self.answer]

    @property
    def text(self) -> str:
        """The prompt with its answer, as in training texts and few-shot prompts."""
        return f"{self.prompt} {self.letter}."

    def orders(self) -> Iterator["Question"]:
        """The same question with its choices in each of the 24 orders."""
        right = self.choices[self.answer]
        for a, b, c, d in permutations(self.choices):
            yield Question(self.fact, (a, b, c, d), (a, b, c, d).index(right))


def ask(fact: Fact, dice: Dice) -> Question:
    """A question about the fact: its value and three wrong values of its relation, in random order."""
    choices = dice.sample([value for value in fact.values if value != fact.value], 3)
    answer = dice.pick(range(4))
    choices.insert(answer, fact.value)
    a, b, c, d = choices
    return Question(fact, (a, b, c, d), answer)


def quiz(
    dice: Dice, known: Mapping[str, Weighted[Fact]], *, subject: str | None = None
) -> tuple[str, dict[str, str]]:
    """One to five questions with their answers, all on one subject."""
    subject = subject or dice.pick(SUBJECTS)
    asked = [ask(dice.weighted(known[subject]), dice) for _ in range(dice.weighted(_LENGTHS))]
    text = " ".join([question.text for question in asked])
    return text, {"subject": subject, "answers": " ".join(question.letter for question in asked)}


def questions(known: Mapping[str, Weighted[Fact]], subjects: Sequence[str], seed: str) -> Iterator[Question]:
    """One question about every fact of the subjects."""
    dice = Dice(Random(seed))
    for subject in subjects:
        for fact in known[subject].options:
            yield ask(fact, dice)


def _listed(choices: Sequence[str]) -> str:
    return " ".join([f"{letter}: {choice}" for letter, choice in zip(LETTERS, choices, strict=True)])


def templates() -> Iterator[str]:
    """All templates of this kind."""
    yield "question: answer: a b c d."
