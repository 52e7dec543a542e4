"""A model behind an OpenAI-compatible address."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from abench.errors import UserError
from abench.judges.options import MOST_PARALLEL, address_fault, key_variable_fault, model_fault, refused
from abench.keys import canonical_json
from abench.secrets import keep_secret, looks_secret

if TYPE_CHECKING:
    from abench.judges.connection import Connection

_OWN = frozenset({"model", "messages", "stream", "n"})
_LONGEST_SECONDS, _MOST_RETRIES = 86_400, 100
_CHECKS = {"model": model_fault, "base_url": address_fault, "key_variable": key_variable_fault}


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible address: OpenAI, Gemini, vLLM, llama.cpp, ollama, …

    Gemini: `base_url="https://generativelanguage.googleapis.com/v1beta/openai"` and
    `key_variable="GEMINI_API_KEY"`. Raises UserError for what cannot be an endpoint.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. The key itself is never kept, logged or shown."""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0})
    """What else a request says, for instance `{"reasoning_effort": "low"}` where temperature is unknown."""
    timeout: float = 60.0
    """Seconds that one try may take, from connecting to the last byte of the answer; at most a day."""
    retries: int = 4
    """Further tries after a lost connection, a time-out or the statuses 408, 409, 429 and 5xx; at most 100.

    Waits 0.5 s, then twice as long each time up to 8 s, or as long as the server asks for.
    """
    parallel: int = 8
    """Requests under way at once, where several questions are asked together; at most 256."""

    def __post_init__(self) -> None:
        for name, fault in _CHECKS.items():
            if sentence := fault(getattr(self, name)):
                refused(getattr(self, name))
                raise UserError(f"the {name} of an endpoint: {sentence}")
        if not _is_number(self.timeout) or not 0 < self.timeout <= _LONGEST_SECONDS:
            raise UserError(
                f"timeout must be above 0 and at most {_LONGEST_SECONDS} seconds, not {self.timeout!r}"
            )
        for name, least, most in (("retries", 0, _MOST_RETRIES), ("parallel", 1, MOST_PARALLEL)):
            value = getattr(self, name)
            if not _is_number(value) or not isinstance(value, int) or not least <= value <= most:
                raise UserError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
        self._check_parameters()

    def _check_parameters(self) -> None:
        if clash := sorted(_OWN & set(self.parameters)):
            raise UserError(f"the parameters of a request cannot set '{clash[0]}'")
        try:
            text = canonical_json(self.parameters)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"the parameters of a request must be plain JSON: {error}") from error
        if looks_secret(text):
            raise UserError(
                "the parameters of a request hold what looks like a key: the key is read from an environment "
                "variable, named with key_variable"
            )

    def spec(self) -> dict[str, Any]:
        """What can change an answer."""
        return {
            "base_url": self.base_url.rstrip("/"),
            "model": self.model,
            "parameters": dict(self.parameters),
        }

    def key(self) -> str:
        """The key, which is taken out of every text from then on.

        Raises UserError if its variable is not set or cannot hold one.
        """
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise UserError(
                f"the environment variable {self.key_variable} is not set: it must hold the key for "
                f"{self.base_url} (any word will do where a server asks for none)"
            )
        keep_secret(key)
        if not key.isascii() or not key.isprintable():
            raise UserError(f"the environment variable {self.key_variable} holds characters that no key has")
        return key

    def open(self) -> "Connection":
        """Ready to be asked; nothing goes out yet."""
        from abench.judges.connection import Connection

        return Connection(self, self.key())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
