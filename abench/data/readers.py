"""Reading activations in order: the rows of a text, and what has been read ahead."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from abench.data.token_rows import Position, TokenRows
from abench.lm.models import LanguageModel
from abench.lm.tokens import ordinary

_CPU_TOKENS_AT_ONCE = 1024
"""On a CPU, forward passes whose tensors stay in its caches are a third faster than larger ones."""


class Reader(Protocol):
    """Reads activations in order, once."""

    @property
    def position(self) -> Position:
        """The position of the next activations, from which another reader can continue."""
        ...

    def read(self) -> Tensor | None:
        """The next activations, [some, d_model] in float32; None at the end."""
        ...


class RowActivations(Protocol):
    """Gives the activations of rows of tokens: computes them, or has them from a cache."""

    def __call__(self, tokens: Tensor, site: str, *, at_once: int) -> Tensor:
        """The activations at a site, [rows, context, d_model] in the model's dtype and on its device.

        `tokens` is [rows, context]. If they are computed, a forward pass reads `at_once` rows.
        """
        ...


def computed_rows(
    lm: LanguageModel, tokens: Tensor, sites: Sequence[str], *, at_once: int
) -> dict[str, Tensor]:
    """The activations of rows [rows, context] at several sites, [rows, context, d_model], in the same passes.

    The bits depend neither on the other sites nor on their order.
    """
    passes = [lm.residuals(part, sites) for part in torch.split(tokens, at_once)]
    return {site: torch.cat([each[site] for each in passes]) for site in sites}


class TextReader:
    """Reads the activations of a language model at one site, without special tokens."""

    def __init__(
        self,
        lm: LanguageModel,
        site: str,
        rows: TokenRows,
        *,
        context: int,
        at_once: int,
        activations: RowActivations | None = None,
    ) -> None:
        """Each call of `read` reads `at_once` rows, from `activations` instead of the model where given."""
        self._lm, self._site, self._rows, self._at_once = lm, site, rows, at_once
        on_cpu = lm.device.type == "cpu"
        self._pass_rows = min(at_once, -(-_CPU_TOKENS_AT_ONCE // context)) if on_cpu else at_once
        self._activations = activations or self._computed

    @property
    def position(self) -> Position:
        return self._rows.position

    def read(self) -> Tensor | None:
        tokens = self._rows.batch(self._at_once)
        if len(tokens) == 0:
            return None
        activations = self._activations(tokens, self._site, at_once=self._pass_rows)
        return activations[ordinary(tokens, self._lm).to(activations.device)].float()

    def _computed(self, tokens: Tensor, site: str, *, at_once: int) -> Tensor:
        return computed_rows(self._lm, tokens, [site], at_once=at_once)[site]


class ReadAhead:
    """Gives what another reader has read already, and then what that reader reads."""

    def __init__(self, start: Position, ahead: Sequence[tuple[Tensor, Position]], reader: Reader) -> None:
        """`ahead` are activations, each with the position after them; `start` is the one before them all."""
        self.position = start
        self._ahead, self._reader = list(ahead), reader

    def read(self) -> Tensor | None:
        if self._ahead:
            activations, self.position = self._ahead.pop(0)
            return activations
        further = self._reader.read()
        self.position = self._reader.position
        return further
