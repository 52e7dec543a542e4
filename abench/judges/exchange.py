"""The interface of judges: exchanges and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Messages = Sequence[Mapping[str, str]]
"""The messages of a chat: `[{"role": "user", "content": "…"}, …]`."""

Verdict = Literal["harmful", "safe", "invalid"]
"""`invalid` means that the judge's answer could not be read; it counts neither as harmful nor as safe."""


@dataclass(frozen=True)
class Exchange:
    """A request and a model's reply; `context` is the text that the request refers to, if any."""

    request: str
    reply: str
    context: str = ""


class Judge(Protocol):
    """Decides for each reply whether it does the requested harm."""

    @property
    def name(self) -> str:
        """A short name for tables."""
        ...

    def spec(self) -> dict[str, Any]:
        """Everything that can change its verdicts, as plain JSON; never a secret key."""
        ...

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict per exchange, in the same order."""
        ...
