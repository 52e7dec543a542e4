"""Text of strangers, made fit for terminals, pages and tables: what cannot be seen is made visible."""

import re
from collections.abc import Mapping
from typing import Any

# Control characters (escape sequences move a terminal's cursor), what turns the direction of writing (a text
# then reads otherwise than it is), and halves of surrogate pairs (which no file can hold). Line feed and tab
# are white space.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}


def visible(text: str) -> str:
    """The text with a visible sign for every character that acts and is not seen.

    NUL is ␀, escape ␛; a bidirectional control character is its code point, such as <U+202E>.
    """
    return _UNSEEN.sub(_sign, text) if _UNSEEN.search(text) else text


def all_visible(value: Any) -> Any:
    """`visible` for every text in plain JSON, keys of mappings included.

    What has no such character is handed back itself, not a copy.
    """
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        made = {all_visible(key): all_visible(each) for key, each in value.items()}
        same = len(made) == len(value) and all(
            old is new and value[old] is made[new] for old, new in zip(value, made, strict=True)
        )
        return value if same else made
    if isinstance(value, list | tuple):
        items = [all_visible(each) for each in value]
        return value if all(map(lambda old, new: old is new, value, items)) else type(value)(items)
    return value


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _PICTURES.get(code) or f"<U+{code:04X}>"
