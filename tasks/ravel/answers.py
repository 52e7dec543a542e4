"""RAVEL's prompts as tokens, and a model's completions of them with or without patching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from abench import Skip, UserError

from .._shared.passes import unseen
from .judge import is_right, is_settled
from .prompts import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel

Stream: TypeAlias = "Callable[[list[int], Tensor], Tensor]"
"""Indices of rows and their tokens [batch, longest] -> residual stream at the site [batch, longest, d]."""


@dataclass(frozen=True)
class PromptRow:
    """A row of tokens, its text, and the label of a correct completion."""

    row: list[int]
    text: str
    label: str


@dataclass(frozen=True)
class Known:
    """A prompt that the model completes correctly."""

    prompt: Prompt
    row: list[int]
    position: int
    """Position of the entity's last token in the row."""
    first: int
    """The first token that the model generates."""


def ask(
    lm: LanguageModel,
    site: str,
    prompts: Sequence[Prompt],
    most: int,
    done: Callable[[int], None] = unseen,
) -> list[Known]:
    """The prompts that the model completes correctly within `most` tokens.

    `done` receives the number of prompts so far.
    """
    rows, positions = tokenised(lm, prompts)
    asked = [PromptRow(row, prompt.text, prompt.label) for row, prompt in zip(rows, prompts, strict=True)]
    written, right = complete(lm, site, asked, most, lambda _, tokens: lm.residual(tokens, site), done=done)
    return [
        Known(prompt, row, position, tokens[0])
        for prompt, row, position, tokens, good in zip(prompts, rows, positions, written, right, strict=True)
        if good
    ]


def tokenised(lm: LanguageModel, prompts: Sequence[Prompt]) -> tuple[list[list[int]], list[int]]:
    """Rows of token ids, after BOS if there is one, and the position of the entity's last token in each.

    The position comes from the tokenizer's offsets into the text, so it depends neither on BOS nor on how the
    text after the entity would be tokenised by itself. Raises Skip for a tokenizer without offsets, and
    UserError for a prompt longer than the model's context.
    """
    from abench import token_rows

    if not prompts:
        return [], []
    if not lm.tokenizer.is_fast:
        raise Skip("its tokenizer does not report the positions of tokens in a text")
    texts = [prompt.text for prompt in prompts]
    rows = token_rows(lm, texts, lm.max_context or 1 << 20)
    encoded = lm.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    positions = []
    for prompt, row, ids, spans in zip(
        prompts, rows, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        begun = 0 if row[: len(ids)] == ids else 1
        if len(row) < begun + len(ids):
            raise UserError(f"ravel: this prompt is longer than the model's context: {prompt.text!r}")
        start, end = len(prompt.before), len(prompt.before) + len(prompt.entity)
        inside = [place for place, (a, b) in enumerate(spans) if a < end and b > start]
        if not inside:
            raise UserError(f"ravel: no token of {prompt.text!r} belongs to '{prompt.entity}'")
        positions.append(begun + inside[-1])
    return rows, positions


def complete(
    lm: LanguageModel,
    site: str,
    asked: Sequence[PromptRow],
    most: int,
    start: Stream,
    patch: Stream | None = None,
    done: Callable[[int], None] = unseen,
) -> tuple[list[list[int]], list[bool]]:
    """Greedy completions of at most `most` tokens: the tokens of each, and whether it is correct.

    `start` returns the residual stream of the original rows. `patch` maps the indices of rows and their
    residual stream to the patched residual stream; it is called for every generated token. A completion stops
    once no further token can change whether it is correct. `done` receives the number of rows so far; one
    that is being completed counts in part.
    """
    import torch

    from abench import right_padded

    with torch.no_grad():
        written: list[list[int]] = [[] for _ in asked]
        going = list(range(len(asked)))
        for step in range(most):
            if not going:
                break
            grown = [asked[number].row + written[number] for number in going]
            tokens_done = (len(asked) - len(going)) * most + len(going) * step
            for places, tokens, _ in right_padded(grown, lm):
                numbers = [going[place] for place in places]
                residual = start(numbers, tokens) if step == 0 else lm.residual(tokens, site)
                if patch is not None:
                    residual = patch(numbers, residual)
                last = torch.tensor([len(grown[place]) - 1 for place in places])
                logits = lm.next_logits_from(residual, tokens, last, site)
                for number, token in zip(numbers, logits.argmax(-1).tolist(), strict=True):
                    written[number].append(token)
                tokens_done += len(numbers)
                done(tokens_done // most)
            texts = lm.tokenizer.batch_decode([written[number] for number in going])
            going = [
                number
                for number, text in zip(going, texts, strict=True)
                if not is_settled(asked[number].label, text)
            ]
        completions = lm.tokenizer.batch_decode(written)
        right = [is_right(q.text, q.label, text) for q, text in zip(asked, completions, strict=True)]
        return written, right
