"""What a judge is given, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Messages = Sequence[Mapping[str, str]]
"""`[{"role": "user", "content": "…"}, …]`"""

Verdict = Literal["harmful", "safe", "invalid"]
"""`invalid` is a judge's answer that could not be read; it counts neither as harmful nor as safe."""


@dataclass(frozen=True)
class Exchange:
    """A request and a model's reply to it; `context` is a text that the request refers to, if any."""

    request: str
    reply: str
    context: str = ""


class Judge(Protocol):
    """Says of each reply whether it does the harm that was asked for."""

    @property
    def name(self) -> str:
        """A short name for tables."""
        ...

    def spec(self) -> dict[str, Any]:
        """Plain JSON: everything that can change its verdicts; never a key."""
        ...

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in their order."""
        ...
