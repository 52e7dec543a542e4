"""Four-way questions: how they are put to a model, and which of them it knows.

Works with any tokenizer: a question is written as a chat or as plain text, and an answer is whatever single
token stands for its letter, with a space before it or without. A question counts as known if the right choice
wins in every order of the choices, so that neither a favourite letter nor luck passes for knowledge.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from abench import Skip

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel

Four = tuple[str, str, str, str]

ORDERS: tuple[tuple[int, ...], ...] = tuple(permutations(range(4)))
"""The 24 orders of four choices; the first leaves them as they are."""


@dataclass(frozen=True)
class Question:
    """A question with four choices; `answer` is the index of the right one."""

    subject: str
    opening: str
    """All that stands before the choices."""
    choices: Four
    answer: int

    def ordered(self, order: Sequence[int]) -> Question:
        """The same question with its choices in another order."""
        a, b, c, d = (self.choices[place] for place in order)
        return replace(self, choices=(a, b, c, d), answer=list(order).index(self.answer))


@dataclass(frozen=True)
class Form:
    """How a question is written; the next token is the answer's letter."""

    name: str
    letters: Four
    write: Callable[[Question], str] = field(compare=False)


def _listed(question: Question) -> str:
    lines = [f"\n{letter}. {choice}" for letter, choice in zip("ABCD", question.choices, strict=True)]
    return question.opening + "".join(lines)


PLAIN = Form("plain", ("A", "B", "C", "D"), lambda question: _listed(question) + "\nAnswer:")
"""Plain text, for models without a chat format; sae-bench's wording."""

TINY = Form(
    "tinyworld",
    ("a", "b", "c", "d"),
    lambda question: " ".join(
        ["question:", question.opening]
        + [f"{letter}: {choice}" for letter, choice in zip("abcd", question.choices, strict=True)]
        + ["answer:"]
    ),
)
"""As the tiny world's model has seen questions."""


def chat_form(lm: LanguageModel) -> Form:
    """A user's message in the tokenizer's chat template, with the reply begun: `Answer: (`, as in sae-bench.

    Models that think before they answer are asked not to, where their template knows how.
    """

    def write(question: Question) -> str:
        message = [{"role": "user", "content": _listed(question)}]
        begun: str = lm.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return begun + "Answer: ("

    return Form("chat", PLAIN.letters, write)


def has_chat(lm: LanguageModel) -> bool:
    """Whether the tokenizer comes with a chat template."""
    return getattr(lm.tokenizer, "chat_template", None) is not None


def letter_tokens(lm: LanguageModel, form: Form, prompt: str) -> Tensor:
    """Ids of the tokens that answer a prompt, [4, ways of writing a letter] (int64).

    A letter may follow with or without a space, as one token: by itself (as sae-bench looks it up) or as the
    tokenizer continues the prompt. Raises Skip if no way gives four different tokens.
    """
    import torch

    stem = lm.token_ids([prompt])[0]
    ways: list[list[int]] = []
    for space in ("", " "):
        alone = lm.token_ids([space + letter for letter in form.letters])
        continued = lm.token_ids([prompt + space + letter for letter in form.letters])
        ways.append([ids[0] for ids in alone if len(ids) == 1])
        ways.append([ids[-1] for ids in continued if ids[: len(stem)] == stem and len(ids) == len(stem) + 1])
    usable = [way for way in dict.fromkeys(map(tuple, ways)) if len(set(way)) == 4]
    if not usable:
        raise Skip(f"the tokenizer of {lm.name} has no single tokens for {', '.join(form.letters)}")
    return torch.tensor(usable).T.contiguous()


@dataclass(frozen=True)
class Asked:
    """Questions of like length as one batch."""

    numbers: list[int]
    """Which of the questions these are."""
    tokens: Tensor
    """[batch, longest], padded on the right."""
    last: Tensor
    """Position of each prompt's last token, where the answer is read off, [batch] (int64)."""


def asked(lm: LanguageModel, questions: Sequence[Question], form: Form) -> Iterator[Asked]:
    """The questions in batches; those that do not fit into the model's context are left out."""
    import torch

    from abench import right_padded, token_rows

    longest = lm.max_context or sys.maxsize
    rows = token_rows(lm, [form.write(question) for question in questions], longest)
    # Rows are cut at the context, so one of full length may have lost its end.
    fitting = [number for number, row in enumerate(rows) if len(row) < longest]
    for places, tokens, _ in right_padded([rows[number] for number in fitting], lm):
        numbers = [fitting[place] for place in places]
        yield Asked(numbers, tokens, torch.tensor([len(rows[number]) - 1 for number in numbers]))


def answers_from(
    lm: LanguageModel, residual: Tensor, tokens: Tensor, last: Tensor, letters: Tensor, site: str
) -> Tensor:
    """The choice whose letter is likeliest, [batch] (int64, on the CPU), were the residual stream `residual`.

    `last` [batch] is where each prompt ends, `letters` [4, ways] are the ids of the letters' tokens.
    """
    logits = lm.next_logits_from(residual, tokens, last, site)
    return logits[:, letters.to(logits.device)].amax(-1).argmax(-1).cpu()


def known(lm: LanguageModel, questions: tuple[Question, ...], form: Form, *, orders: int = 24) -> list[int]:
    """Numbers of the questions that the model answers right in `orders` orders of their choices.

    A question that fails in one order is not asked again, so most of the cost is that of known ones. The
    result does not depend on any SAE or site and is remembered as long as the model lives.
    """
    memory = _KNOWN.setdefault(lm, {})
    key = (questions, form, orders)
    if key not in memory:
        memory[key] = tuple(_known(lm, questions, form, orders)) if questions else ()
    return list(memory[key])


_KNOWN: WeakKeyDictionary[LanguageModel, dict[Any, tuple[int, ...]]] = WeakKeyDictionary()


def _known(lm: LanguageModel, questions: tuple[Question, ...], form: Form, orders: int) -> list[int]:
    letters = letter_tokens(lm, form, form.write(questions[0]))
    left = list(range(len(questions)))
    wanted = ORDERS[:: len(ORDERS) // orders][:orders]
    start, size = 0, 1
    while start < len(wanted) and left:
        some = wanted[start : start + size]
        turned = [questions[number].ordered(order) for number in left for order in some]
        right = _right(lm, turned, form, letters).reshape(len(left), len(some)).all(1)
        left = [number for number, passed in zip(left, right.tolist(), strict=True) if passed]
        start, size = start + size, max(size, start)
    return left


def _right(lm: LanguageModel, questions: Sequence[Question], form: Form, letters: Tensor) -> Tensor:
    """Which questions are answered right, [questions] (bool)."""
    import torch

    from abench import site_name

    right = torch.zeros(len(questions), dtype=torch.bool)
    top = site_name(lm.n_layers - 1)
    for batch in asked(lm, questions, form):
        # From the last block on, so that there are logits only where an answer is read off.
        residual = lm.residual(batch.tokens, top)
        choice = answers_from(lm, residual, batch.tokens, batch.last, letters, top)
        answers = torch.tensor([questions[number].answer for number in batch.numbers])
        right[batch.numbers] = choice == answers
    return right
