"""Values of configurations, checked as they are taken."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abench.errors import UserError, short


def whole(value: Any) -> int | None:
    """A whole number, also one that is written as text or as 32.0; None for anything else."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value)


def text(value: Any) -> str | None:
    """Text that is not empty; None for anything else."""
    return value if isinstance(value, str) and value else None


def flag(value: Any) -> bool | None:
    """Yes or no, also where it was written as text; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def needed(config: Mapping[str, Any], name: str, file: Path) -> int:
    """The whole number under a name; raises UserError if it is missing."""
    number = whole(config.get(name))
    if number is None:
        raise UserError(f"{file} must state {name}, a whole number; it has {short(config.get(name))}")
    return number


def part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under a name; empty if there is none."""
    value = config.get(name)
    return value if isinstance(value, dict) else {}
