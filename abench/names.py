"""Names that become part of a path: tasks, variants, models, reports. One rule for all of them."""

import hashlib
import re

from abench.errors import UserError

NAME_LENGTH = 100
"""Most characters of a name: a hub id has up to 97, and file systems allow 255 bytes with what is added."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# Windows gives these names to devices in every folder, whatever comes after a dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_DIGITS = 8


def name_problem(name: object) -> str | None:
    """Why a name cannot be part of a path, as half a sentence; None if it can.

    Letters, digits, `.`, `_` and `-`, at most `NAME_LENGTH` of them; no dot at either end, no hyphen at the
    start, and none of the names that Windows keeps for devices.
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
    """A name that can be part of a path, for text that was not chosen as one, such as a folder's name.

    Text that is such a name already stays as it is. Any other gets eight digits of its hash, so that two
    texts do not become one name.
    """
    if name_problem(text) is None:
        return text
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[: NAME_LENGTH - _DIGITS - 1]
    digits = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    # A device's name stays one with any ending after a dot, but not with one before it.
    stem = f"_{plain}" if _DEVICE.fullmatch(plain) else plain
    return f"{stem}-{digits}" if stem else f"_{digits}"


def path_part(text: object) -> str:
    """The text as one part of a path: the last defence where a path is built.

    Raises UserError for text that would lead elsewhere: empty, `.`, `..`, with a separator, a drive, or a
    control character.
    """
    part = str(text)
    if part in {"", ".", ".."} or re.search(r"[/\\:\x00-\x1f\x7f]", part):
        raise UserError(
            f"{part[:80]!r} cannot be part of a path in the results folder: nothing is read or written"
        )
    return part
