"""What moves the residual stream: a direction that is added, or a latent that is clamped.

A length is signed and in units of the residual stream. Each row of a batch may have its own, so that many
strengths are tried in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SAE


class Mover(Protocol):
    """One way to steer, at any length; a positive one leads to the positive pole, as far as is known."""

    def moved(self, residual: Tensor, lengths: Tensor) -> Tensor:
        """The residual stream [rows, sequence, d_model], with each row moved by its length [rows]."""
        ...

    def one_way(self, length: float) -> bool:
        """Whether a length of this sign pushes a single unit to a side on which it fires."""
        ...

    def plain(self) -> dict[str, Any]:
        """A description as plain JSON."""
        ...


@dataclass(frozen=True, eq=False)
class Line:
    """A direction to add to every token, as `abench.AddDirection` does."""

    direction: Tensor
    """[d_model], unit norm."""
    by: str
    """How it was found."""

    def moved(self, residual: Tensor, lengths: Tensor) -> Tensor:
        unit = self.direction.to(residual.device)
        step = lengths.to(residual.device, unit.dtype)[:, None, None] * unit
        return (residual + step).to(residual.dtype)

    def one_way(self, length: float) -> bool:
        return True

    def plain(self) -> dict[str, Any]:
        return {"by": self.by}


@dataclass(frozen=True, eq=False)
class OneLatent:
    """A latent to clamp at every token, as `abench.ClampLatent` does; the reconstruction error is kept."""

    sae: SAE
    latent: int
    sign: int
    """The pole of the latent, 1 or −1, that stands for the concept's positive pole."""
    by: str
    """The ranking that it was found by."""
    signed: bool
    """Whether the SAE has negative codes."""

    def moved(self, residual: Tensor, lengths: Tensor) -> Tensor:
        from abench import latent_codes, latent_directions

        x = residual.reshape(-1, residual.shape[-1]).to(self.sae.device, self.sae.dtype)
        wanted = (self.sign * lengths).to(x.device, x.dtype).repeat_interleave(residual.shape[1])
        change = wanted - latent_codes(self.sae, x, self.latent)
        step = change[:, None] * latent_directions(self.sae, [self.latent])
        return (residual + step.reshape(residual.shape).to(residual.device)).to(residual.dtype)

    def one_way(self, length: float) -> bool:
        return self.signed or self.sign * length > 0

    def plain(self) -> dict[str, Any]:
        return {"by": self.by, "latent": self.latent, "pole": "+" if self.sign > 0 else "−"}


Move = tuple[Mover, float]
"""A mover and the length by which it moves."""


class PartedError(Exception):
    """A batch arrived in parts, because memory ran out, and it is not known which rows these are."""


class Together:
    """An intervention that applies several moves to the rows of one batch.

    Row i is moved by move i modulo the number of moves. Moves of the same mover are computed at once. Raises
    PartedError for a batch with another number of rows than `rows`, unless there is only one move.
    """

    def __init__(self, moves: Sequence[Move], rows: int) -> None:
        import torch

        self._rows, self._only = rows, moves[0] if len(moves) == 1 else None
        lengths = torch.tensor([length for _, length in moves]).repeat(-(-rows // len(moves)))[:rows]
        places = torch.arange(rows) % len(moves)
        movers = list({id(mover): mover for mover, _ in moves}.values())
        self._groups = []
        for mover in movers:
            own = torch.tensor([number for number, (each, _) in enumerate(moves) if each is mover])
            at = torch.isin(places, own).nonzero()[:, 0]
            self._groups.append((mover, at, lengths[at]))

    def __call__(self, residual: Tensor) -> Tensor:
        import torch

        if self._only is not None:
            mover, length = self._only
            return mover.moved(residual, torch.full((len(residual),), length))
        if len(residual) != self._rows:
            raise PartedError
        moved = torch.empty_like(residual)
        for mover, rows, lengths in self._groups:
            at = rows.to(residual.device)
            moved[at] = mover.moved(residual[at], lengths)
        return moved
