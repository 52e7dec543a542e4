"""Rows of tokens from texts and prompts: padded batches, with masks that mark text tokens."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from abench.errors import UserError

_TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 32_768}


class Tokenising(Protocol):
    """The part of a language model that rows of tokens depend on."""

    name: str
    max_context: int | None

    @property
    def device(self) -> torch.device: ...

    @property
    def bos_id(self) -> int | None: ...

    @property
    def special_ids(self) -> frozenset[int]: ...

    def token_ids(self, texts: list[str]) -> list[list[int]]: ...


def token_rows(lm: Tokenising, texts: Sequence[str], context: int) -> list[list[int]]:
    """Token ids of each text, truncated to `context` tokens: after BOS if there is one, without EOS.

    Raises UserError for a text without tokens.
    """
    start = [] if lm.bos_id is None else [lm.bos_id]
    limit = min(context, lm.max_context or context)
    rows = []
    for number, ids in enumerate(lm.token_ids(list(texts))):
        if not ids:
            raise UserError(f"text {number} of {len(texts)} has no tokens: {texts[number]!r}")
        # Some tokenizers add BOS themselves, even with add_special_tokens=False.
        rows.append((start + ids if ids[: len(start)] != start else ids)[:limit])
    return rows


def prompt_rows(lm: Tokenising, prompts: Sequence[str], *, room: int = 0) -> list[list[int]]:
    """Token ids of each prompt: after BOS if the tokenizer has one, without EOS, never truncated.

    Raises UserError for a prompt without tokens, or one that leaves fewer than `room` tokens of the context.
    """
    start = [] if lm.bos_id is None else [lm.bos_id]
    rows = []
    for number, ids in enumerate(lm.token_ids(list(prompts)) if prompts else [], 1):
        # Some tokenizers add BOS themselves, even with add_special_tokens=False; chat templates do, too.
        row = ids if start and ids[:1] == start else start + ids
        if not row:
            raise UserError(f"prompt {number} of {len(prompts)} has no tokens: {prompts[number - 1]!r}")
        if lm.max_context is not None and len(row) + room > lm.max_context:
            wanted = f" and {room} new ones are requested" if room else ""
            raise UserError(
                f"prompt {number} of {len(prompts)} has {len(row)} tokens{wanted}, but the context of "
                f"{lm.name} is {lm.max_context}: shorten the prompt to {max(lm.max_context - room, 0)} tokens"
            )
        rows.append(row)
    return rows


def ordinary(tokens: Tensor, lm: Tokenising) -> Tensor:
    """Mask of the tokens [batch, sequence] that are text: True except at BOS, EOS and separators."""
    mask = torch.ones_like(tokens, dtype=torch.bool)
    for token in sorted(lm.special_ids):
        mask &= tokens != token
    return mask


def check_ordinary(lm: Tokenising, texts: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
    """Raise UserError for a row that has only special tokens: a mean over no tokens is undefined."""
    for number, row in enumerate(rows):
        if not set(row) - lm.special_ids:
            raise UserError(
                f"text {number} of {len(texts)} has only special tokens among its first {len(row)}: "
                f"{texts[number]!r}"
            )


def right_padded(rows: Sequence[Sequence[int]], lm: Tokenising) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Batches of rows of similar length: row numbers, tokens [batch, longest], mask of ordinary tokens.

    Padding is on the right, where no earlier token of a causal model attends to it.
    """
    longest_first = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
    while longest_first:
        width = len(rows[longest_first[0]])
        size = max(1, tokens_at_once(lm) // width)
        numbers, longest_first = longest_first[:size], longest_first[size:]
        padding = next(iter(lm.special_ids))
        tokens = torch.full((len(numbers), width), padding, dtype=torch.int64)
        for place, number in enumerate(numbers):
            tokens[place, : len(rows[number])] = torch.tensor(rows[number])
        yield numbers, tokens, ordinary(tokens, lm).to(lm.device)


def left_padded(rows: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Tokens [batch, longest], padded on the left, and the attention mask: 1 at tokens, 0 at padding."""
    longest = max(map(len, rows))
    tokens = torch.tensor([[padding] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return tokens, mask


def tokens_at_once(lm: Tokenising) -> int:
    return _TOKENS_AT_ONCE["cpu" if lm.device.type == "cpu" else "cuda"]
