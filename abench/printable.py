"""Texts of strangers as one harmless line for a terminal or a log."""

import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: escape sequences, backspaces, carriage returns
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # invisible, line-breaking, bidirectional
    "\ud800-\udfff]"  # halves of a surrogate pair cannot be written at all
)


def printable(text: str) -> str:
    """The text on one line: white space as spaces, every other unprintable character as its escape."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in "\t\n\r\v\f\u2028\u2029":
        return " "
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
