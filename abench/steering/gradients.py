"""The direction at a site that raises an objective of the model's next tokens most.

An objective is a function of the logits after each prompt, or the log-probability of some continuations minus
that of others. Its gradient is summed over all tokens of a row, because interventions move all tokens alike,
and averaged over prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from abench.errors import UserError
from abench.lm.blocks import hidden_of, with_hidden
from abench.lm.models import LanguageModel
from abench.lm.tokens import prompt_rows, right_padded

LogitObjective = Callable[[Tensor], Tensor]
"""Logits [prompts, vocabulary] after each prompt, in float32 -> the objective of each prompt, [prompts]."""


@dataclass(frozen=True)
class Continuations:
    """The objective log p(towards | prompt) − log p(away | prompt), in nats, averaged over each list.

    A continuation's tokens are those of its text by itself, so it begins with a space wherever the tokenizer
    needs one between the prompt and the next word.
    """

    towards: Sequence[str]
    away: Sequence[str] = ()


Objective = LogitObjective | Continuations


@dataclass(frozen=True)
class _Row:
    """One forward pass: the tokens of a prompt and of one continuation, which may be empty."""

    tokens: list[int]
    prompt: int
    """Number of tokens of the prompt."""
    weight: float
    """What the row's objective is multiplied by in the mean over prompts."""


def objective_gradient(lm: LanguageModel, prompts: Sequence[str], site: str, objective: Objective) -> Tensor:
    """The mean gradient of an objective with respect to a shift of all tokens at a site, [d_model].

    float64, on the CPU. Moving the residual stream by a small length along a unit direction u at every token
    raises the objective's mean by that length times gradient · u. Raises UserError without prompts, for
    prompts or continuations that cannot be used, and if the gradient is not finite.
    """
    rows = _rows(lm, prompts, objective)
    total = torch.zeros(lm.d_model, dtype=torch.float64)
    for numbers, tokens, _ in right_padded([row.tokens for row in rows], lm):
        # Few rows at a time: what the gradient needs of all their tokens is kept until the end.
        size = lm.rows_with_logits(tokens.shape[1])
        for start in range(0, len(numbers), size):
            part = slice(start, start + size)
            total += _gradient(lm, tokens[part], [rows[n] for n in numbers[part]], site, objective)
    if not bool(total.isfinite().all()):
        raise UserError(f"the gradient of the objective at {site} of {lm.name} is not finite")
    return total


def _rows(lm: LanguageModel, prompts: Sequence[str], objective: Objective) -> list[_Row]:
    if not prompts:
        raise UserError("the gradient of an objective needs at least one prompt")
    if not isinstance(objective, Continuations):
        return [_Row(row, len(row), 1 / len(prompts)) for row in prompt_rows(lm, prompts)]
    if not objective.towards:
        raise UserError("an objective of continuations needs at least one continuation to move towards")
    signed = [(text, 1 / len(objective.towards)) for text in objective.towards]
    signed += [(text, -1 / len(objective.away)) for text in objective.away]
    continued = lm.token_ids([text for text, _ in signed])
    for (text, _), ids in zip(signed, continued, strict=True):
        if not ids:
            raise UserError(f"the continuation {text!r} has no tokens")
    return [
        _Row(row + ids, len(row), weight / len(prompts))
        for row in prompt_rows(lm, prompts, room=max(map(len, continued)))
        for (_, weight), ids in zip(signed, continued, strict=True)
    ]


def _gradient(
    lm: LanguageModel, tokens: Tensor, rows: Sequence[_Row], site: str, objective: Objective
) -> Tensor:
    """The gradient of the weighted sum of the rows' objectives, summed over tokens: [d_model]."""
    with torch.inference_mode(False), torch.enable_grad(), _leaf_at(lm, site) as leaves:
        logits = lm.model(input_ids=tokens.to(lm.device), use_cache=False).logits
        values = [_value(each, row, objective) for each, row in zip(logits, rows, strict=True)]
        [gradient] = torch.autograd.grad(torch.stack(values).sum(), leaves)
    summed: Tensor = gradient.double().sum(dim=(0, 1)).cpu()
    return summed


def _value(logits: Tensor, row: _Row, objective: Objective) -> Tensor:
    """A row's weighted objective, from its logits [tokens, vocabulary]."""
    if not isinstance(objective, Continuations):
        [value] = objective(logits[row.prompt - 1].float()[None])
        weighted: Tensor = value * row.weight
        return weighted
    continued = torch.tensor(row.tokens[row.prompt :], device=logits.device)
    scores: Tensor = logits[row.prompt - 1 : len(row.tokens) - 1].float().log_softmax(-1)
    return scores.gather(-1, continued[:, None]).sum() * row.weight


@contextmanager
def _leaf_at(lm: LanguageModel, site: str) -> Iterator[list[Tensor]]:
    """While active, gradients of a forward pass end at the activations at a site, which the list holds."""
    leaves: list[Tensor] = []

    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        leaves.append(hidden_of(output).detach().clone().requires_grad_(True))
        return with_hidden(output, leaves[-1])

    handle = lm._module(site).register_forward_hook(replace)
    try:
        yield leaves
    finally:
        handle.remove()
