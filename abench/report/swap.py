"""Replace a report's folder in one move, so that a crash leaves the old report whole."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abench.errors import UserError

OWN_FILES = (
    *("data.csv", "index.html", "table.md", "table.csv", "table.tex"),
    *("reconstruction*.png", "reconstruction*.pdf", "reconstruction*.csv"),
    *("task_scores*.png", "task_scores*.pdf", "task_scores*.csv"),
    *("toy*.png", "toy*.pdf", "toy*.csv"),
)
"""Patterns of the names that a report writes; other files in its folder are the user's."""


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yields an empty folder beside `folder`; takes its place when the block ends without an error.

    Files in the old folder that no report wrote are carried over. Raises UserError if `folder` is something
    other than a report.
    """
    _check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = _beside(folder, "new")
    fresh.mkdir()
    try:
        yield fresh
        _swap(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder: choose another name for the report")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "index.html").is_file():
        raise UserError(
            f"{folder} holds files but no report (index.html): choose another name for the report"
        )


def _swap(fresh: Path, folder: Path) -> None:
    if not folder.exists():
        fresh.rename(folder)
        return
    old = _beside(folder, "old")
    folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    _carry_over(old, folder)
    shutil.rmtree(old)


def _carry_over(old: Path, folder: Path) -> None:
    for entry in old.iterdir():
        if not any(entry.match(pattern) for pattern in OWN_FILES):
            entry.rename(folder / entry.name)


def _beside(folder: Path, role: str) -> Path:
    return folder.with_name(f".{folder.name}.{role}-{uuid.uuid4().hex[:8]}")
