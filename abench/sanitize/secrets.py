"""Keeping keys and passwords out of every text that leaves the process.

Secrets are all values passed to `keep_secret` (called by code that reads a key), the values of environment
variables with names like those of secrets, the hub tokens that a login stored in a file, and anything that
looks like a key in the options of a run (`notice`). `hidden` removes them from a text, even if they are
quoted, encoded or cut. It is applied where untrusted texts enter (answers of endpoints) and where all texts
leave, so that no caller has to remember it: in `abench.storage.files.write_whole` and, on the command line,
by `hide_in_output`.
"""

import os
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast
from urllib.parse import urlsplit

from abench.sanitize.secret_forms import SHORTEST, Scanner, scanner

HIDDEN = "[key]"
UNSHOWN = "unshown"
"""Type of pydantic errors about values that must not be shown, because they may be secrets."""
_FROM_ENVIRONMENT = 12
"""Minimum length of an environment variable's value that counts as a secret although no code has read it."""

_VARIABLE = re.compile(r"(?:^|_)(?:API_?KEY|ACCESS_KEY|SECRET|SECRET_KEY|TOKEN|PASSWORD|PASSWD)$", re.I)
_LOOKS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    # OpenAI, Anthropic, Stripe, xAI, NVIDIA, Perplexity, GitLab; a digit excludes hyphenated words.
    r"(?:[spr]k|xai|nvapi|pplx|glpat)-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}"
    r"|(?:hf|gsk|gh[oprsu]|r8)_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|AIza[A-Za-z0-9_-]{30,}|AKIA[A-Z0-9]{16}"
    r")"
)
_IN_ADDRESS = re.compile(
    r"://[^/\s:@]*:([^/\s@]+)@|[?&](?:api[_-]?key|key|(?:access_|auth_)?token|secret|password)=([^&\s#'\"]+)",
    re.I,
)

_STORED = re.compile(r"^\s*(?:hf|refresh)_token\s*=\s*(\S+)", re.M)
"""Tokens in the file in which huggingface_hub stores several logins."""

Value = TypeVar("Value")

_kept: set[str] = set()


def keep_secret(value: str) -> None:
    """Remove this value from every text from now on. Values of fewer than 8 characters are ignored."""
    if len(value.strip()) >= SHORTEST:
        _kept.add(value.strip())


def looks_secret(text: str) -> bool:
    """Whether the text contains something in the form of a provider's key, or a password in a URL."""
    return bool(_LOOKS.search(text) or _IN_ADDRESS.search(text))


def notice(text: str) -> None:
    """Keep everything in a text (such as the options of a run) secret that looks like a key."""
    for found in _LOOKS.finditer(text):
        keep_secret(found[0])
    for found in _IN_ADDRESS.finditer(text):
        keep_secret(found[1] or found[2])


def hidden(text: str) -> str:
    """The text with `[key]` in place of every secret and every part of one of at least 12 characters."""
    found = _scanner()
    return found.replaced(text, HIDDEN) if found else text


def without_secrets(value: Value) -> Value:
    """Plain JSON with `hidden` applied to every text in it, including keys of mappings."""
    return cast(Value, _without(value, found)) if (found := _scanner()) else value


def hide_in_output() -> None:
    """Remove secrets from stdout and stderr of this process, including tracebacks and logs."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _HidingStream):
            setattr(sys, name, _HidingStream(stream))


class _HidingStream:
    """A wrapper of a text stream that removes secrets from written text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"text is required, not {type(text).__name__}")
        self._stream.write(hidden(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _without(value: Any, found: Scanner) -> Any:
    if isinstance(value, str):
        return found.replaced(value, HIDDEN)
    if isinstance(value, dict):
        return {_without(key, found): _without(each, found) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without(each, found) for each in value]
    return value


def _scanner() -> Scanner | None:
    known = _kept | set(_in_environment()) | _in_hub_files()
    return scanner(frozenset(known)) if known else None


def _in_environment() -> Iterable[str]:
    """Secrets in environment variables, read at every call so that new variables are included."""
    for name, value in os.environ.items():
        if name.lower().endswith("_proxy"):
            password = _password(value)
            if password and len(password) >= SHORTEST:
                yield password
        # A path to a file that holds a secret is not a secret.
        elif (
            len(value) >= _FROM_ENVIRONMENT
            and _VARIABLE.search(name)
            and not value.startswith(("/", "~", "."))
        ):
            yield value.strip()


def _in_hub_files() -> frozenset[str]:
    from huggingface_hub import constants

    return _in_files(Path(constants.HF_TOKEN_PATH), Path(constants.HF_STORED_TOKENS_PATH))


@lru_cache(maxsize=8)
def _in_files(token: Path, stored: Path) -> frozenset[str]:
    """The hub token in use and those of stored logins; cached, because every text needs them."""
    found = {_content(token).strip(), *_STORED.findall(_content(stored))}
    return frozenset(each for each in found if len(each) >= SHORTEST)


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""  # huggingface_hub cannot use an unreadable file either


def _password(address: str) -> str | None:
    try:
        return urlsplit(address).password
    except ValueError:
        return None
