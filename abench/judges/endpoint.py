"""Chat completions over any OpenAI-compatible endpoint, with failures as sentences."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from abench.errors import UserError
from abench.keys import canonical_json

if TYPE_CHECKING:
    from openai import APIError

Messages = Sequence[Mapping[str, str]]
"""`[{"role": "user", "content": "…"}, …]`"""

_OWN = frozenset({"model", "messages", "stream", "n"})


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
    """Seconds that one try may take."""
    retries: int = 4
    """Further tries after a lost connection, a time-out or the statuses 408, 409, 429 and 5xx.

    Waits 0.5 s, then twice as long each time up to 8 s, or as long as the server asks for.
    """
    parallel: int = 8
    """Requests under way at once, where several questions are asked together."""

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise UserError(f"base_url '{self.base_url}' is not a web address: it looks like https://HOST/v1")
        if url.username or url.password or url.query or url.fragment:
            # It is kept beside every answer and shown in messages.
            raise UserError(
                f"the base_url on {url.hostname} must hold neither a key nor a query: the key is "
                "read from an environment variable, named with key_variable"
            )
        if self.timeout <= 0 or self.retries < 0:
            raise UserError(
                f"timeout must be above 0 and retries at least 0, not {self.timeout} and {self.retries}"
            )
        if self.parallel < 1:
            raise UserError(f"parallel must be at least 1, not {self.parallel}")
        if clash := sorted(_OWN & set(self.parameters)):
            raise UserError(f"the parameters of a request cannot set '{clash[0]}'")
        try:
            canonical_json(self.parameters)
        except (TypeError, ValueError) as error:
            raise UserError(f"the parameters of a request must be plain JSON: {error}") from error

    def spec(self) -> dict[str, Any]:
        """What can change an answer."""
        return {
            "base_url": self.base_url.rstrip("/"),
            "model": self.model,
            "parameters": dict(self.parameters),
        }

    def key(self) -> str:
        """The key; raises UserError if its variable is not set or cannot hold one."""
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise UserError(
                f"the environment variable {self.key_variable} is not set: it must hold the key for "
                f"{self.base_url} (any word will do where a server asks for none)"
            )
        if not key.isascii() or not key.isprintable():
            raise UserError(f"the environment variable {self.key_variable} holds characters that no key has")
        return key

    def open(self) -> "Connection":
        """Ready to be asked; nothing goes out yet."""
        return Connection(self)


@dataclass(frozen=True)
class Completion:
    """An answer; `tokens` are those of prompt and answer together, where the server says."""

    text: str
    finish: str | None
    tokens: int | None


class Connection:
    """An endpoint with its client."""

    def __init__(self, endpoint: Endpoint) -> None:
        from openai import OpenAI

        self._endpoint = endpoint
        self._key = endpoint.key()
        self._client = OpenAI(
            api_key=self._key,
            base_url=endpoint.base_url,
            timeout=endpoint.timeout,
            max_retries=endpoint.retries,
        )

    def complete(self, messages: Messages) -> Completion:
        """The answer to a chat; raises UserError, one sentence, where there is none to be had."""
        from openai import APIError

        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self._endpoint.model,
                messages=cast(Any, [dict(message) for message in messages]),
                extra_body=dict(self._endpoint.parameters),
            )
        except APIError as error:
            if getattr(error, "code", None) == "content_filter":
                return Completion("", "content_filter", None)
            raise UserError(self._hidden(_sentence(error, self._endpoint))) from error
        # Read here and not by the client, which takes whatever comes for an answer.
        return self._read(self._hidden(raw.http_response.text))

    def _hidden(self, text: str) -> str:
        """The text without the key, which servers sometimes repeat."""
        return text.replace(self._key, "[key]")

    def _read(self, body: str) -> Completion:
        try:
            content = json.loads(body)
            choice = content["choices"][0]
            text = choice["message"].get("content") or ""
            usage = content.get("usage") or {}
            if not isinstance(text, str):
                raise TypeError("the content is no text")
            return Completion(text, choice.get("finish_reason"), usage.get("total_tokens"))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            begin = " ".join(body[:80].split())
            raise UserError(
                f"{self._endpoint.base_url} gave no chat completion but '{begin}': is base_url right? "
                "It ends before /chat/completions"
            ) from error


def _sentence(error: "APIError", endpoint: Endpoint) -> str:
    """What went wrong for good, and what to do about it."""
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    where, tries = endpoint.base_url, "1 try" if endpoint.retries == 0 else f"{endpoint.retries + 1} tries"
    again = "What it answered before is kept; the same command asks only for the rest."
    if isinstance(error, APITimeoutError):
        return f"{where} did not answer within {endpoint.timeout:g} seconds, in {tries}. {again}"
    if isinstance(error, APIConnectionError):
        return f"{where} cannot be reached, in {tries}: {_cause(error)}. {again}"
    if not isinstance(error, APIStatusError):
        return f"{where} failed: {_said(error)}. {again}"
    status = error.status_code
    if status in {401, 403}:
        return (
            f"{where} refuses the key in {endpoint.key_variable} (status {status}: {_said(error)}): "
            f"set it to a key that may use {endpoint.model}"
        )
    if status == 404:
        return f"{where} has no model '{endpoint.model}' or no chat completions (status 404: {_said(error)})"
    if status == 429:
        return f"{where} has no room or no credit for us, in {tries} (status 429: {_said(error)}). {again}"
    if status >= 500:
        return f"{where} failed in {tries} (status {status}: {_said(error)}). {again}"
    return f"{where} does not accept the request (status {status}: {_said(error)})"


def _said(error: "APIError") -> str:
    """What the server says, on one line and not too long."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(message or error.message).split())[:200].rstrip(" .")


def _cause(error: Exception) -> str:
    """What lies at the bottom of a lost connection."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return str(error).rstrip(" .") or type(error).__name__
