"""Finding secrets in texts: plain, quoted for JSON, HTML or URLs, in base64, and parts of them."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from urllib.parse import quote, quote_plus

SHORTEST = 8
"""Length of the shortest secret, in characters: shorter values are words such as `EMPTY`."""
PART = 12
"""Length of the shortest part of a secret that is hidden, too, wherever a text was cut."""


@dataclass(frozen=True)
class Scanner:
    """Finds given secrets in texts.

    Every form of a secret is divided into overlapping blocks of 8 characters, so that every part of at least
    12 characters contains a whole block. From a block that is found, the match is extended in both
    directions.
    """

    blocks: Mapping[str, tuple[tuple[str, int], ...]]
    """Block -> (form, position of the block in it) pairs, in lower case."""

    def replaced(self, text: str, by: str) -> str:
        """The text with `by` in place of every secret and of every part of one."""
        lowered = text.lower()
        present = [block for block in self.blocks if block in lowered]
        if not present:
            return text
        pattern = re.compile("|".join(map(re.escape, present)), re.IGNORECASE)
        pieces, done, at = [], 0, 0
        while match := pattern.search(text, at):
            begin, end = self._part(text, match.start(), match[0].lower())
            if begin < end:
                pieces += [text[done : max(begin, done)], by]
                done = at = end
            else:
                at = match.start() + 1
        return "".join([*pieces, text[done:]])

    def _part(self, text: str, at: int, block: str) -> tuple[int, int]:
        """Begin and end of the longest match around a block; an empty range if the match is too short."""
        best = (at, at)
        for form, offset in self.blocks.get(block, ()):
            left = _common(reversed(text[max(0, at - offset) : at]), reversed(form[:offset]))
            right = _common(text[at : at + len(form) - offset], form[offset:])
            if left + right >= min(PART, len(form)) and left + right > best[1] - best[0]:
                best = (at - left, at + right)
        return best


def _common(text: Iterable[str], form: Iterable[str]) -> int:
    """The length of the common beginning of two texts, ignoring case."""
    return sum(1 for _ in takewhile(lambda pair: pair[0].lower() == pair[1], zip(text, form, strict=False)))


@lru_cache(maxsize=8)
def scanner(secrets: frozenset[str]) -> Scanner:
    """The scanner for these secrets, each of at least 8 characters."""
    blocks: dict[str, list[tuple[str, int]]] = {}
    for form in sorted({form.lower() for secret in secrets for form in _forms(secret)}):
        for offset in _offsets(len(form)):
            blocks.setdefault(form[offset : offset + SHORTEST], []).append((form, offset))
    return Scanner({block: tuple(places) for block, places in blocks.items()})


def _offsets(length: int) -> Sequence[int]:
    """The positions of blocks in a form of this length; the last block ends with the form."""
    return sorted({*range(0, length - SHORTEST + 1, PART - SHORTEST + 1), length - SHORTEST})


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    yield html.escape(secret)
    yield quote(secret)
    yield quote(secret, safe="")
    yield quote_plus(secret)
    for shift, unsure in ((0, 0), (1, 2), (2, 3)):
        # In base64, a text has one of three forms, depending on the length of the text before it. The first
        # digits include bits of the text before, the last digit may include bits of the text after it.
        raw = bytes(shift) + secret.encode()
        whole = base64.b64encode(raw).decode()[unsure : len(raw) * 8 // 6]
        if len(whole) >= SHORTEST:
            yield whole
            yield whole.replace("+", "-").replace("/", "_")
