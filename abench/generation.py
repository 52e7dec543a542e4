"""Greedy replies to prompts: batched, with cached keys and values, alike whatever the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abench.errors import UserError

if TYPE_CHECKING:
    from abench.models import LanguageModel


def replies(
    lm: LanguageModel, prompts: Sequence[str], *, max_new_tokens: int, batch_size: int = 32
) -> list[str]:
    """What `LanguageModel.generate` returns; see there."""
    if max_new_tokens < 1 or batch_size < 1:
        raise UserError(
            f"max_new_tokens and batch_size must be at least 1, not {max_new_tokens} and {batch_size}"
        )
    rows = prompt_rows(lm, prompts, room=max_new_tokens)
    # Prompts of like length together, so that little is padded.
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    texts = [""] * len(rows)
    stops = _stops(lm)
    with _greedy(lm, stops, max_new_tokens):
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            tokens, mask = left_padded([rows[number] for number in numbers], _padding(lm))
            new = _continued(lm, tokens, mask)
            for number, text in zip(numbers, _decoded(lm, new, stops), strict=True):
                texts[number] = text
    return texts


def prompt_rows(lm: LanguageModel, prompts: Sequence[str], *, room: int = 0) -> list[list[int]]:
    """Token ids of each prompt: behind BOS if the tokenizer has one, without EOS, never cut.

    Raises UserError for a prompt without tokens, or one that leaves less than `room` tokens of the context.
    """
    start = [] if lm.bos_id is None else [lm.bos_id]
    rows = []
    for number, ids in enumerate(lm.token_ids(list(prompts)) if prompts else [], 1):
        # A tokenizer may write BOS itself although it was asked not to, and a chat template does.
        row = ids if start and ids[:1] == start else start + ids
        if not row:
            raise UserError(f"prompt {number} of {len(prompts)} has no tokens: {prompts[number - 1]!r}")
        if lm.max_context is not None and len(row) + room > lm.max_context:
            wanted = f" and {room} new ones are asked for" if room else ""
            raise UserError(
                f"prompt {number} of {len(prompts)} has {len(row)} tokens{wanted}, but the context of "
                f"{lm.name} holds {lm.max_context}: shorten the prompt to {max(lm.max_context - room, 0)}"
            )
        rows.append(row)
    return rows


def left_padded(rows: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Tokens [batch, longest] that end together, and the mask that is 1 at the rows' own."""
    longest = max(map(len, rows))
    tokens = torch.tensor([[padding] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return tokens, mask


@contextmanager
def _greedy(lm: LanguageModel, stops: Sequence[int], max_new_tokens: int) -> Iterator[None]:
    """Within it the model generates by the largest logit alone, whatever its own settings are.

    transformers fills what a call leaves open, such as a penalty on repetition, from the model's settings.
    """
    from transformers import GenerationConfig

    own: Any = lm.model.generation_config
    lm.model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stops) or None,
        pad_token_id=_padding(lm),
        use_cache=True,
    )
    try:
        yield
    finally:
        lm.model.generation_config = own


@torch.inference_mode()
def _continued(lm: LanguageModel, tokens: Tensor, mask: Tensor) -> Tensor:
    """The new tokens of each row, [batch, at most as many as allowed]."""
    every = lm.model.generate(input_ids=tokens.to(lm.device), attention_mask=mask.to(lm.device))
    new: Tensor = every[:, tokens.shape[1] :]
    return new


def _decoded(lm: LanguageModel, new: Tensor, stops: Sequence[int]) -> list[str]:
    rows = []
    for row in new.tolist():
        end = next((place for place, token in enumerate(row) if token in stops), len(row))
        rows.append(row[:end])
    texts: list[str] = lm.tokenizer.batch_decode(rows, skip_special_tokens=True)
    return texts


def _stops(lm: LanguageModel) -> list[int]:
    """The tokens that end a reply: the tokenizer's EOS and the model's own, which may be several."""
    own = getattr(lm.model.generation_config, "eos_token_id", None)
    own = own if isinstance(own, list) else [own]
    return sorted({token for token in [*own, lm.tokenizer.eos_token_id] if token is not None})


def _padding(lm: LanguageModel) -> int:
    """Any token: what stands there is masked, or stands behind the end of a reply."""
    known = (lm.tokenizer.pad_token_id, lm.tokenizer.eos_token_id, 0)
    return next(int(token) for token in known if token is not None)
