"""The code blocks and commands on the pages of the documentation."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from command import Abench

ROOT = Path(__file__).parents[1]
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
"""The text of every page that is written by hand, by its path in the repository."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^(?:\S+ )*abench [a-z]")
_INDENTED = re.compile(r"(?<=\n\n)(?:    abench [^\n]*\n)+", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code: its page, its number on the page, its language (empty if none is stated)."""

    page: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(page, n, *found) for n, found in enumerate(_FENCE.findall(PAGES[page]))]


def texts(page: str, language: str) -> list[str]:
    """The text of the blocks in a language."""
    return [block.text for block in blocks(page) if block.language == language]


def commands(text: str) -> Iterator[list[str]]:
    """The words after `abench` of each of its commands in a block; `&&` and `;` separate commands."""
    for line in filter(_COMMAND.search, text.replace("\\\n", " ").splitlines()):
        for part in _split(shlex.split(line, comments=True)):
            if "abench" in part:
                yield part[part.index("abench") + 1 :]


def page_commands(page: str) -> list[list[str]]:
    """All commands on a page: in blocks of a shell or of no language, and on lines that are indented."""
    text = PAGES[page]
    shell = [block.text for block in blocks(page) if block.language in ("", "bash", "console")]
    return [each for part in [*shell, *_INDENTED.findall(text)] for each in commands(part)]


def run_all(abench: Abench, text: str, *more: str) -> str:
    """Run the commands of a block, those of `run` with further options; the output of the last."""
    printed = ""
    for words in commands(text):
        result = abench(*words, *(more if words[0] == "run" else ()))
        assert result.code == 0, f"{words}: {result.err}"
        printed = result.out
    return printed


def _split(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word in ("&&", ";", "||"):
            yield part
            part = []
        elif word.endswith(";"):
            yield [*part, word[:-1]]
            part = []
        else:
            part.append(word)
    yield part
