"""Making untrusted text safe for terminals, pages and tables: invisible characters become visible."""

import re
from collections.abc import Mapping
from typing import Any

# Control characters (escape sequences move a terminal's cursor), characters that change the direction of
# writing (so that a text reads differently), and lone surrogates (which no file can store). Line feed and tab
# are white space.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
_BREAKS = re.compile("[\t\n\r\v\f\u2028\u2029]")
_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}


def visible(text: str) -> str:
    """The text with a visible sign in place of every invisible control character.

    NUL becomes ␀ and escape ␛; a bidirectional control character becomes its code point, e.g. <U+202E>.
    """
    return _UNSEEN.sub(_sign, text) if _UNSEEN.search(text) else text


def printable(text: str) -> str:
    """`visible` on one line: line breaks and other white space become spaces. For terminals and logs."""
    return visible(_BREAKS.sub(" ", text))


def one_line(text: str) -> str:
    """The text on one line: every run of white space, including line breaks, becomes one space."""
    return " ".join(text.split())


def all_visible(value: Any) -> Any:
    """`visible` applied to every text in plain JSON, including keys of mappings.

    A value without such characters is returned itself, not copied.
    """
    # repr escapes all these characters, and few others; this is much faster than a traversal.
    return _visible_inside(value) if "\\" in repr(value) else value


def _visible_inside(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        made: Any = {_visible_inside(key): _visible_inside(each) for key, each in value.items()}
    elif isinstance(value, list | tuple):
        made = type(value)(_visible_inside(each) for each in value)
    else:
        return value
    return value if made == value else made


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _PICTURES.get(code) or f"<U+{code:04X}>"
