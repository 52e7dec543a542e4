"""A model behind an OpenAI-compatible endpoint."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from abench.errors import UserError
from abench.judges.options import MOST_PARALLEL, address_fault, key_variable_fault, model_fault, refused
from abench.sanitize.secrets import keep_secret, looks_secret
from abench.storage.keys import canonical_json

if TYPE_CHECKING:
    from abench.judges.connection import Connection

_OWN = frozenset({"model", "messages", "stream", "n"})
_LONGEST_SECONDS, _MOST_RETRIES = 86_400, 100
_CHECKS = {"model": model_fault, "base_url": address_fault, "key_variable": key_variable_fault}


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible endpoint: OpenAI, Gemini, vLLM, llama.cpp, ollama, …

    For Gemini, use `base_url="https://generativelanguage.googleapis.com/v1beta/openai"` and
    `key_variable="GEMINI_API_KEY"`. Raises UserError for invalid values.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    key_variable: str = "OPENAI_API_KEY"
    """Name of the environment variable with the key. The key itself is never stored, logged or shown."""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0})
    """Further parameters of a request, e.g. `{"reasoning_effort": "low"}` if temperature is not supported."""
    timeout: float = 60.0
    """Time limit of one attempt in seconds, from connecting to the last byte of the answer; at most a day."""
    retries: int = 4
    """Retries after a lost connection, a time-out or the statuses 408, 409, 429 and 5xx; at most 100.

    The wait is 0.5 s at first and doubles each time up to 8 s, or is as long as the server requests.
    """
    parallel: int = 8
    """Maximum number of parallel requests when several questions are sent together; at most 256."""

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
                "the parameters of a request contain something that looks like a key: the key is read from "
                "the environment variable named by key_variable"
            )

    def spec(self) -> dict[str, Any]:
        """Everything that can change an answer, as plain JSON."""
        return {
            "base_url": self.base_url.rstrip("/"),
            "model": self.model,
            "parameters": dict(self.parameters),
        }

    def key(self) -> str:
        """The key, which is removed from every output text from now on.

        Raises UserError if its variable is not set or cannot be a key.
        """
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise UserError(
                f"the environment variable {self.key_variable} is not set: it must hold the key for "
                f"{self.base_url} (any word if the server needs no key)"
            )
        keep_secret(key)
        if not key.isascii() or not key.isprintable():
            raise UserError(f"the environment variable {self.key_variable} has characters that no key has")
        return key

    def open(self) -> "Connection":
        """A connection; no request is sent yet."""
        from abench.judges.connection import Connection

        return Connection(self, self.key())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
