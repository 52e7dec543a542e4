"""Four-way questions: how a model is prompted with them, and which of them it knows.

Works with any tokenizer. A question is written as a chat or as plain text, and the answer is the single token
for a letter, with or without a leading space. A question counts as known if the right choice wins in every
order of the choices, so that neither a preferred letter nor luck passes for knowledge.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from abench import Skip

from .passes import unseen

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel

Four = tuple[str, str, str, str]

ORDERS: tuple[tuple[int, ...], ...] = tuple(permutations(range(4)))
"""The 24 orders of four choices; the first is the identity."""


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question with four choices; `answer` is the index of the right one."""

    subject: str
    opening: str
    """The text before the choices."""
    choices: Four
    answer: int

    def ordered(self, order: Sequence[int]) -> ChoiceQuestion:
        """The same question with its choices in another order."""
        a, b, c, d = (self.choices[place] for place in order)
        return replace(self, choices=(a, b, c, d), answer=list(order).index(self.answer))


@dataclass(frozen=True)
class Form:
    """A prompt format for questions; the next token is the letter of the answer."""

    name: str
    letters: Four
    write: Callable[[ChoiceQuestion], str] = field(compare=False)


def _listed(question: ChoiceQuestion) -> str:
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
"""The format in which the tiny world's model has seen questions."""


def chat_form(lm: LanguageModel) -> Form:
    """A user message in the tokenizer's chat template, with the reply begun by `Answer: (`, as in sae-bench.

    Thinking is disabled where the template supports it.
    """

    def write(question: ChoiceQuestion) -> str:
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
    """Ids of the tokens that can answer a prompt, [4, ways of writing a letter] (int64).

    A letter must be a single token, with or without a space before it, tokenised by itself (as in sae-bench)
    or as a continuation of the prompt. Raises Skip if no way gives four different tokens.
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
        raise Skip(f"the tokenizer of {lm.name} has no single token for each of {', '.join(form.letters)}")
    return torch.tensor(usable).T.contiguous()


@dataclass(frozen=True)
class Asked:
    """A batch of questions of similar length."""

    numbers: list[int]
    """Indices of the questions."""
    tokens: Tensor
    """[batch, longest], padded on the right."""
    last: Tensor
    """Position of each prompt's last token, where the answer is read, [batch] (int64)."""


def asked(lm: LanguageModel, questions: Sequence[ChoiceQuestion], form: Form) -> Iterator[Asked]:
    """The questions in batches; questions that do not fit the model's context are left out."""
    import torch

    from abench import right_padded, token_rows

    longest = lm.max_context or sys.maxsize
    rows = token_rows(lm, [form.write(question) for question in questions], longest)
    # Rows are cut at the context, so a row of full length may have lost its end.
    fitting = [number for number, row in enumerate(rows) if len(row) < longest]
    for places, tokens, _ in right_padded([rows[number] for number in fitting], lm):
        numbers = [fitting[place] for place in places]
        yield Asked(numbers, tokens, torch.tensor([len(rows[number]) - 1 for number in numbers]))


def answers_from(
    lm: LanguageModel, residual: Tensor, tokens: Tensor, last: Tensor, letters: Tensor, site: str
) -> Tensor:
    """The choice with the likeliest letter, [batch] (int64, on the CPU), given the residual stream at `site`.

    `last` [batch] is the last position of each prompt, `letters` [4, ways] are the token ids of the letters.
    """
    logits = lm.next_logits_from(residual, tokens, last, site)
    return logits[:, letters.to(logits.device)].amax(-1).argmax(-1).cpu()


def known(
    lm: LanguageModel,
    questions: tuple[ChoiceQuestion, ...],
    form: Form,
    *,
    orders: int = 24,
    done: Callable[[int], None] = unseen,
) -> list[int]:
    """Indices of the questions that the model answers correctly in `orders` orders of their choices.

    A question that fails in one order is dropped, so most of the cost comes from known questions. The result
    does not depend on any SAE or site and is cached for the lifetime of the model. `done` receives the number
    of questions so far; one that is still being asked counts in part.
    """
    memory = _KNOWN.setdefault(lm, {})
    key = (questions, form, orders)
    if key not in memory:
        memory[key] = tuple(_known(lm, questions, form, orders, done)) if questions else ()
    return list(memory[key])


_KNOWN: WeakKeyDictionary[LanguageModel, dict[Any, tuple[int, ...]]] = WeakKeyDictionary()


def _known(
    lm: LanguageModel,
    questions: tuple[ChoiceQuestion, ...],
    form: Form,
    orders: int,
    done: Callable[[int], None],
) -> list[int]:
    letters = letter_tokens(lm, form, form.write(questions[0]))
    left = list(range(len(questions)))
    wanted = ORDERS[:: len(ORDERS) // orders][:orders]
    start, size = 0, 1
    while start < len(wanted) and left:
        some = wanted[start : start + size]
        turned = [questions[number].ordered(order) for number in left for order in some]
        settled = len(questions) - len(left)

        def asked_so_far(prompts: int) -> None:
            done(settled + (len(left) * start + prompts) // len(wanted))  # noqa: B023

        right = _right(lm, turned, form, letters, asked_so_far).reshape(len(left), len(some)).all(1)
        left = [number for number, passed in zip(left, right.tolist(), strict=True) if passed]
        start, size = start + size, max(size, start)
    return left


def _right(
    lm: LanguageModel,
    questions: Sequence[ChoiceQuestion],
    form: Form,
    letters: Tensor,
    done: Callable[[int], None],
) -> Tensor:
    """Mask of the questions that are answered correctly, [questions] (bool)."""
    import torch

    from abench import site_name

    right, read = torch.zeros(len(questions), dtype=torch.bool), 0
    top = site_name(lm.n_layers - 1)
    for batch in asked(lm, questions, form):
        # Resumed at the last block, so that logits are computed only where an answer is read.
        residual = lm.residual(batch.tokens, top)
        choice = answers_from(lm, residual, batch.tokens, batch.last, letters, top)
        answers = torch.tensor([questions[number].answer for number in batch.numbers])
        right[batch.numbers] = choice == answers
        read += len(batch.numbers)
        done(read)
    return right
