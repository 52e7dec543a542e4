"""Validation of an endpoint's options when a run is planned.

A refused value may be a secret key in the wrong place, so it is never repeated and is removed from every
other output text from then on.
"""

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from abench.sanitize.printable import printable
from abench.sanitize.secrets import UNSHOWN, keep_secret, looks_secret

MOST_PARALLEL = 256
"""Maximum number of parallel requests."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_USUAL_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_LONGEST_WORD, _MOST_DIGITS = 19, 3
_LONGEST = 300


def key_variable_fault(value: object) -> str | None:
    """Why this cannot be the name of the environment variable that holds a key; None if it can.

    Some providers' keys consist only of letters and digits, as names do. The name of a variable that is not
    set must therefore look like a usual name: in capitals, without long words or many digits.
    """
    if isinstance(value, str) and _NAME.fullmatch(value) and not looks_secret(value):
        words = value.split("_")
        usual = (
            _USUAL_NAME.fullmatch(value)
            and max(map(len, words)) <= _LONGEST_WORD
            and sum(map(str.isdigit, value)) <= _MOST_DIGITS
        )
        if usual or value in os.environ:
            return None
    return (
        "must be the name of an environment variable that holds the key, e.g. OPENAI_API_KEY, and never the "
        "key itself; the given value, which is not shown here, is neither set nor looks like such a name"
    )


def address_fault(value: object) -> str | None:
    """Why this cannot be the address of an endpoint; None if it can."""
    if not isinstance(value, str):
        return "must be a web address, e.g. https://HOST/v1"
    wrong = f"{_shown(value)} is not a web address, e.g. https://HOST/v1"
    try:
        url = urlsplit(value)
        host, port = url.hostname or "", url.port
        host.encode("idna")
    except ValueError:
        return wrong
    if url.username or url.password or url.query or url.fragment or looks_secret(value):
        return (
            "must contain neither a key nor a query: the key is read from an environment variable, and this "
            "address is stored with every result"
        )
    plain = len(value) <= _LONGEST and value.isprintable() and re.fullmatch(r"[\w.:-]+", host)
    return None if plain and url.scheme in {"http", "https"} and port != 0 else wrong


def model_fault(value: object) -> str | None:
    """Why this cannot be the name of a model; None if it can."""
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST or not value.isprintable():
        return f"must be the name of a model: printable text of 1 to {_LONGEST} characters"
    return (
        "must be the name of a model, but the value looks like a key (it is not shown here)"
        if looks_secret(value)
        else None
    )


def refused(value: object) -> None:
    """Remove a refused value from every other output text too, unless it is clearly an address or a word."""
    if isinstance(value, str) and _shown(value) == "this":
        keep_secret(value)


def _shown(value: str) -> str:
    """The quoted value if it is certainly not a key (it has characters of an address); otherwise `this`."""
    harmless = re.search(r"[:/. ]", value) and not re.search(r"[@?=#]", value) and not looks_secret(value)
    return f"'{printable(value)}'" if harmless and len(value) <= _LONGEST else "this"


def _checked(fault: Callable[[object], str | None], value: Any) -> Any:
    if sentence := fault(value):
        refused(value)
        raise PydanticCustomError(UNSHOWN, "{sentence}", {"sentence": sentence})
    return value


KeyVariable = Annotated[str, BeforeValidator(partial(_checked, key_variable_fault))]
"""An option with the name of the environment variable that holds a key."""
EndpointAddress = Annotated[str, BeforeValidator(partial(_checked, address_fault))]
"""An option with the address of an OpenAI-compatible endpoint."""
ModelName = Annotated[str, BeforeValidator(partial(_checked, model_fault))]
"""An option with the name of an endpoint's model."""
