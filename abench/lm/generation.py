"""Greedy replies to prompts: batched, with a key-value cache, independent of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abench.errors import UserError
from abench.lm.tokens import left_padded
from abench.passes import unseen

if TYPE_CHECKING:
    from abench.lm.models import LanguageModel


def replies(
    lm: LanguageModel,
    rows: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    done: Callable[[int], None] = unseen,
) -> list[str]:
    """The greedy reply of a model to each row of tokens; see `LanguageModel.generate`.

    A batch for which memory runs out is continued in parts, with the padding of the whole batch. Raises
    UserError for a `max_new_tokens` or `batch_size` below 1.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise UserError(
            f"max_new_tokens and batch_size must be at least 1, not {max_new_tokens} and {batch_size}"
        )
    # Prompts of similar length are batched together, which keeps padding short.
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    texts = [""] * len(rows)
    stops, padding = _stops(lm.model, lm.tokenizer), _padding(lm.tokenizer)
    with _greedy(lm.model, stops, padding, max_new_tokens):
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            tokens, mask = left_padded([rows[number] for number in numbers], padding)
            found = _answered(lm, tokens, mask, max_new_tokens, stops)
            for number, text in zip(numbers, found, strict=True):
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


def _answered(lm: LanguageModel, tokens: Tensor, mask: Tensor, most: int, stops: Sequence[int]) -> list[str]:
    """The replies of at most `most` tokens to the rows of a padded batch."""
    rows, length = tokens.shape
    parts = lm.fitting.parts(
        "replies",
        (rows, length + most),
        lambda some: _decoded(lm.tokenizer, _continued(lm, tokens[some], mask[some]), stops),
    )
    return [text for part in parts for text in part]


@torch.inference_mode()
def _continued(lm: LanguageModel, tokens: Tensor, mask: Tensor) -> Tensor:
    """The new tokens of each row, [batch, at most max_new_tokens]."""
    every = lm.model.generate(input_ids=tokens.to(lm.device), attention_mask=mask.to(lm.device))
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
