"""Parsing of a chat completion from an endpoint's response."""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abench.errors import UserError
from abench.judges.limited import one_line
from abench.sanitize.secrets import hidden

_SHOWN = 80
_MOST_TOKENS = 10**9


@dataclass(frozen=True)
class Completion:
    """An answer; `tokens` is the total for prompt and answer, if the server reports it."""

    text: str
    finish: str | None
    tokens: int | None


class _Lenient(BaseModel):
    """A model that ignores additional fields, which servers may add."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class _Message(_Lenient):
    content: str | None = None


class _Choice(_Lenient):
    message: _Message
    finish_reason: str | None = Field(None, max_length=100)


class _Usage(_Lenient):
    total_tokens: int | None = Field(None, ge=0, le=_MOST_TOKENS)


class _Body(_Lenient):
    choices: tuple[_Choice, ...] = Field(min_length=1)
    usage: _Usage | None = None


def read_completion(body: bytes, where: str) -> Completion:
    """The completion in a response from the address `where`; raises UserError if there is none.

    Secrets are removed from its text. The text can be written as UTF-8: unpaired surrogates are replaced.
    """
    try:
        content = json.loads(body, parse_constant=_no_json, parse_float=_finite)
        found = _Body.model_validate(_writable(content))
    except (ValidationError, ValueError, RecursionError) as error:
        begin = one_line(body[: 50 * _SHOWN].decode("utf-8", "replace"), _SHOWN)
        raise UserError(
            f"{where} returned no chat completion but '{begin}' ({_reason(error)}): is base_url correct? "
            "It must end before /chat/completions"
        ) from None
    first, usage = found.choices[0], found.usage
    return Completion(
        hidden(first.message.content or ""), first.finish_reason, usage.total_tokens if usage else None
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" if problem["loc"] else problem["msg"]
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return "not JSON"


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    if (value := float(number)) in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def _writable(value: Any) -> Any:
    """The value with all texts made encodable; JSON allows an unpaired surrogate such as `\\ud83d`."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {key: _writable(each) for key, each in value.items()}
    return [_writable(each) for each in value] if isinstance(value, list) else value
