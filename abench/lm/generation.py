"""Greedy replies to prompts: batched, with a key-value cache, independent of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from abench.errors import UserError
from abench.lm.tokens import left_padded
from abench.passes import unseen


def replies(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    done: Callable[[int], None] = unseen,
) -> list[str]:
    """The greedy reply of a transformers model to each row of tokens; see `LanguageModel.generate`.

    Raises UserError for a `max_new_tokens` or `batch_size` below 1.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise UserError(
            f"max_new_tokens and batch_size must be at least 1, not {max_new_tokens} and {batch_size}"
        )
    # Prompts of similar length are batched together, which keeps padding short.
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    texts = [""] * len(rows)
    stops, padding = _stops(model, tokenizer), _padding(tokenizer)
    with _greedy(model, stops, padding, max_new_tokens):
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            tokens, mask = left_padded([rows[number] for number in numbers], padding)
            new = _continued(model, tokens, mask)
            for number, text in zip(numbers, _decoded(tokenizer, new, stops), strict=True):
                texts[number] = text
            done(start + len(numbers))
    return texts


@contextmanager
def _greedy(model: Any, stops: Sequence[int], padding: int, max_new_tokens: int) -> Iterator[None]:
    """While active, the model decodes greedily, without its own generation settings.

    transformers fills options that a call leaves open, such as a repetition penalty, from these settings.
    """
    from transformers import GenerationConfig

    own: Any = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stops) or None,
        pad_token_id=padding,
        use_cache=True,
    )
    try:
        yield
    finally:
        model.generation_config = own


@torch.inference_mode()
def _continued(model: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """The new tokens of each row, [batch, at most max_new_tokens]."""
    every = model.generate(input_ids=tokens.to(model.device), attention_mask=mask.to(model.device))
    new: Tensor = every[:, tokens.shape[1] :]
    return new


def _decoded(tokenizer: Any, new: Tensor, stops: Sequence[int]) -> list[str]:
    rows = []
    for row in new.tolist():
        end = next((place for place, token in enumerate(row) if token in stops), len(row))
        rows.append(row[:end])
    texts: list[str] = tokenizer.batch_decode(rows, skip_special_tokens=True)
    return texts


def _stops(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a reply: the tokenizer's EOS and those of the model, which may be several."""
    own = getattr(model.generation_config, "eos_token_id", None)
    own = own if isinstance(own, list) else [own]
    return sorted({token for token in [*own, tokenizer.eos_token_id] if token is not None})


def _padding(tokenizer: Any) -> int:
    """Any token will do for padding: it is masked, or comes after the end of a reply."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(token) for token in known if token is not None)
