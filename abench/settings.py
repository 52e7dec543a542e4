"""Names of SAEs that differ in settings of one variant or of their training: `ridgetopk[ridge=0.1]`.

Variants' names never contain brackets, so the name and the settings can be told apart again.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
"""Text that needs no quotes, because no other value looks like it."""
_WORDS = frozenset({"true", "false", "null", "NaN", "Infinity"})


def with_settings(label: str, settings: Mapping[str, Any]) -> str:
    """A variant's name or label with these settings added; unchanged if there are none.

    Values are plain JSON; short text is written without quotes.
    """
    if not settings:
        return label
    added = ",".join(f"{key}={_text(value)}" for key, value in settings.items())
    return f"{label[:-1]},{added}]" if label.endswith("]") else f"{label}[{added}]"


def variant_name(label: str) -> str:
    """The variant's name, without settings."""
    return label.partition("[")[0]


def settings_text(label: str) -> str:
    """The settings as they are written in a label, without brackets; empty if it has none."""
    return label.partition("[")[2].removesuffix("]")


def settings_of(label: str) -> dict[str, str]:
    """The settings in a label: each one's value as text."""
    text, found = settings_text(label), {}
    while text:
        key, _, text = text.partition("=")
        end = _end_of_value(text)
        found[key], text = text[:end], text[end + 1 :]
    return found


def number_in(value: str) -> float:
    """The number that the text of a value stands for; infinite for text that is no number."""
    try:
        return float(value)
    except ValueError:
        return math.inf


def _text(value: Any) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value) and value not in _WORDS:
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _end_of_value(text: str) -> int:
    bare = _BARE.match(text)
    if bare is not None and bare[0] not in _WORDS:
        return bare.end()
    return json.JSONDecoder().raw_decode(text)[1]
