"""The residual stream of RAVEL's prompts, shared by all SAEs of a site, from one forward pass per prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .._shared.passes import unseen
from .answers import Known

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel

_KEPT_BYTES = 16 << 30


class Bank:
    """Known prompts and their residual stream at the site: complete for bases, at the entity for others."""

    def __init__(
        self,
        lm: LanguageModel,
        site: str,
        known: Sequence[Known],
        bases: set[int],
        *,
        most: int = _KEPT_BYTES,
        done: Callable[[int], None] = unseen,
    ) -> None:
        """Store the residual streams of bases if they fit in `most` bytes; otherwise recompute on demand.

        `done` receives the number of prompts read so far.
        """
        import torch

        self.known = known
        self._lm, self._site = lm, site
        dtype = lm.model.dtype
        self._at_entity = torch.zeros(len(known), lm.d_model, dtype=dtype, device=lm.device)
        self._whole: dict[int, Tensor] = {}
        size = sum(len(known[number].row) for number in bases) * lm.d_model * dtype.itemsize
        self._fill(bases if size <= most else set(), done)

    def _fill(self, kept: set[int], done: Callable[[int], None]) -> None:
        from abench import right_padded

        read = 0
        for numbers, tokens, _ in right_padded([each.row for each in self.known], self._lm):
            residual = self._lm.residual(tokens, self._site)
            self._at_entity[numbers] = residual[range(len(numbers)), self.positions(numbers)]
            for row, number in enumerate(numbers):
                if number in kept:
                    self._whole[number] = residual[row, : len(self.known[number].row)].clone().cpu()
            read += len(numbers)
            done(read)

    def positions(self, numbers: Sequence[int]) -> list[int]:
        """The position of the entity's last token in each prompt."""
        return [self.known[number].position for number in numbers]

    def at_entity(self, numbers: Sequence[int]) -> Tensor:
        """The residual stream at the entity's last token, [prompts, d_model]."""
        return self._at_entity[list(numbers)]

    def tokens(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Tokens of bases, [bases, longest], padded on the right, and their last positions, [bases]."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        rows = [torch.tensor(self.known[number].row) for number in numbers]
        return pad_sequence(rows, batch_first=True), torch.tensor([len(row) - 1 for row in rows])

    def residual(self, numbers: Sequence[int], tokens: Tensor) -> Tensor:
        """The residual stream of bases, [bases, longest, d_model], as a writable copy."""
        from torch.nn.utils.rnn import pad_sequence

        if not self._whole:
            return self._lm.residual(tokens, self._site).clone()
        whole = pad_sequence([self._whole[number] for number in numbers], batch_first=True)
        return whole.to(self._lm.device)
