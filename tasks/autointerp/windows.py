"""The texts that a judge sees of a latent or a pole: windows of tokens, and the two sets of examples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Some tokens of one document, with those marked at which the latent is active."""

    tokens: tuple[str, ...]
    """Joined, they are the text."""
    marks: tuple[int, ...]
    """Per token: 1 where the latent is active, −1 where the weaker side of a whole latent is, else 0."""
    strength: float = 0.0
    """The largest absolute code."""

    @property
    def active(self) -> bool:
        """Whether the latent is active anywhere in the window: what a judge must predict."""
        return any(self.marks)


@dataclass(frozen=True)
class Examples:
    """The examples of a pole or of a latent as a whole; no two windows share a token."""

    shown: tuple[Window, ...]
    """Active windows for the explanation, strongest first."""
    tested: tuple[Window, ...]
    """Active and inactive windows for the detection, in random order."""

    @property
    def two_sided(self) -> bool:
        """Whether both sides of a latent occur in the windows that are shown."""
        return any(mark < 0 for window in self.shown for mark in window.marks)
