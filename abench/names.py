"""The rule for names that become part of a path: those of tasks, variants, models and reports."""

import hashlib
import re

from abench.errors import UserError

NAME_LENGTH = 100
"""Most characters of a name. A hub id has up to 97; file systems allow 255 bytes, including what is added."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# On Windows these names denote devices in every folder, also with any ending after a dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_DIGITS = 8


def name_problem(name: object) -> str | None:
    """The reason why a name cannot be part of a path, as part of a sentence; None if it can.

    A name has at most `NAME_LENGTH` letters, digits, `.`, `_` and `-`, no dot at either end and no hyphen at
    the beginning, and is not a name that Windows reserves for devices.
    """
    if not isinstance(name, str):
        return f"it must be text, not {type(name).__name__}"
    if len(name) > NAME_LENGTH:
        return f"it has {len(name)} characters, more than {NAME_LENGTH}"
    if not _NAME.fullmatch(name) or name.endswith("."):
        return (
            f"{name!r} must consist of letters, digits, '.', '_' and '-', begin with a letter, a digit or"
            " '_', and not end with a dot"
        )
    return f"'{name}' is the name of a device on Windows" if _DEVICE.fullmatch(name) else None


def safe_name(text: str) -> str:
    """A valid name for text that was not chosen as a name, such as the name of a folder.

    Text that is already a valid name is returned unchanged. Other text gets eight digits of its hash, so that
    different texts get different names.
    """
    if name_problem(text) is None:
        return text
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[: NAME_LENGTH - _DIGITS - 1]
    digits = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    # An ending after a dot does not change that a name denotes a device; a character in front does.
    stem = f"_{plain}" if _DEVICE.fullmatch(plain) else plain
    return f"{stem}-{digits}" if stem else f"_{digits}"


def path_part(text: object) -> str:
    """The text as one part of a path: the last check when a path is built.

    Raises UserError for text that would lead outside the folder: empty text, `.`, `..`, or text with a
    separator, a drive or a control character.
    """
    part = str(text)
    if part in {"", ".", ".."} or re.search(r"[/\\:\x00-\x1f\x7f]", part):
        raise UserError(
            f"{part[:80]!r} cannot be part of a path in the results folder; nothing was read or written"
        )
    return part
