"""Records of top contexts: excerpts of texts, and those in which a latent is strongest."""

from collections.abc import Sequence
from dataclasses import dataclass

from abench.errors import UserError


@dataclass(frozen=True)
class Excerpt:
    """The tokens of one document around the token on which a latent is strongest."""

    tokens: tuple[str, ...]
    """Joined, they are the text."""
    values: tuple[float, ...]
    """The latent's code on each token, in units of the residual stream; 0 on tokens that are not encoded."""
    peak: int
    """Index of the token on which the latent is strongest."""
    row: int = 0
    position: int = 0
    """Row and column of the peak in the searched tokens."""

    @property
    def value(self) -> float:
        """The value at the peak."""
        return self.values[self.peak]

    def __repr__(self) -> str:
        before, peak, after = self.tokens[: self.peak], self.tokens[self.peak], self.tokens[self.peak + 1 :]
        shown = f"{''.join(before)}«{peak}»{''.join(after)}"
        return f"Excerpt({self.value:+.3g} {shown!r})"


@dataclass(frozen=True)
class LatentContexts:
    """The strongest contexts of a latent's two sides, strongest first, at most one per row of tokens."""

    latent: int
    positive: tuple[Excerpt, ...]
    negative: tuple[Excerpt, ...]
    """By negative codes; for an SAE without any, by the lowest pre-activations (in the same units).
    Empty if the SAE has neither."""
    positive_rate: float = 0.0
    """Share of tokens on which the latent's code is positive."""
    negative_rate: float = 0.0

    def __repr__(self) -> str:
        sides = (("+", self.positive, self.positive_rate), ("−", self.negative, self.negative_rate))
        shown = (f"{sign} on {rate:.2%} {list(side[:1])}" for sign, side, rate in sides)
        return f"LatentContexts(latent {self.latent}: {'; '.join(shown)})"


@dataclass(frozen=True)
class TopContexts:
    """Top contexts of the requested latents of one SAE."""

    latents: tuple[LatentContexts, ...]
    """The requested latents that fire, in the requested order."""
    alive: int
    """Number of alive latents in the whole SAE."""
    alive_poles: int
    """Number of poles in the whole SAE that fire; a latent that fires on both sides counts twice."""
    width: int
    signed: bool
    """Whether any code was negative; if none was, `negative` holds the lowest pre-activations."""
    tokens: int
    """Number of encoded tokens."""
    negative_known: bool = True
    """False if no code was negative and the SAE's class does not show its pre-activations."""

    def of(self, latent: int) -> LatentContexts:
        """The contexts of one latent; raises UserError if it was not searched or never fires."""
        for each in self.latents:
            if each.latent == latent:
                return each
        raise UserError(f"latent {latent} was not searched or does not fire on these {self.tokens:,} tokens")

    def __repr__(self) -> str:
        shown = ", ".join(str(each.latent) for each in self.latents[:5])
        more = ", …" if len(self.latents) > 5 else ""
        return (
            f"TopContexts({len(self.latents)} latents ({shown}{more}); {self.alive} of {self.width} fire on "
            f"{self.tokens:,} tokens)"
        )

    def split(self) -> "TopContexts":
        """The same contexts in the split view, where each pole that fires is a latent with one side."""
        poles = [
            *(LatentContexts(each.latent, each.positive, (), each.positive_rate) for each in self.latents),
            *(
                LatentContexts(each.latent + self.width, _negated(each.negative), (), each.negative_rate)
                for each in self.latents
            ),
        ]
        fire = tuple(pole for pole in poles if pole.positive_rate > 0)
        return TopContexts(fire, self.alive_poles, self.alive_poles, 2 * self.width, False, self.tokens)


def _negated(excerpts: Sequence[Excerpt]) -> tuple[Excerpt, ...]:
    return tuple(
        Excerpt(e.tokens, tuple(0.0 - value for value in e.values), e.peak, e.row, e.position)
        for e in excerpts
    )
