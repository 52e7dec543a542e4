"""Labelled texts from files: the user's own, and the data sets of the package sae-probes.

A file has a row per text with its label, optionally with a second attribute (for SCR) and with the part of
the data that the text belongs to. Without parts, a hash of the text and the seed decides, so that a text
stays in its part when rows are added or moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, TypeAlias

from abench import FILE_ENDINGS, Skip, UserError, read_file

from . import sae_probes

Part = Literal["train", "test"]
_PARTS: tuple[Part, Part] = ("train", "test")
Column = Literal["text", "label", "attribute", "split"]
Columns = Mapping[Column, str]
"""What a column holds -> its name in the file, where the two differ."""
Texts = tuple[str, ...]
Halves: TypeAlias = "tuple[Mapping[Any, Texts], Mapping[Any, Texts]]"
"""Texts for training and for testing, by class or by corner."""

FEWEST = 20
"""Minimum number of texts per class in each part; with fewer, an accuracy would be noise."""
_LONGEST_LABEL = 200
_OF_SAE_PROBES: Columns = {"text": "prompt", "label": "target"}


@dataclass(frozen=True)
class Example:
    """One text of a file."""

    text: str
    label: str
    attribute: str | None
    part: Part | None
    """None if the file does not state it."""


def file_of(name: str) -> Path | None:
    """The file that the name of a data set stands for; None if it is the name of another data set."""
    if Path(name).suffix in FILE_ENDINGS:
        return Path(name)
    return sae_probes.file_of(name)


def is_file(name: str) -> bool:
    """Whether a data set is read from a file on this machine."""
    return name.startswith(sae_probes.PREFIX) or file_of(name) is not None


def title_of(name: str) -> str:
    """The data set's name without the folder, on which no number may depend."""
    return Path(name).name if Path(name).suffix in FILE_ENDINGS else name


def examples(name: str, columns: Columns) -> list[Example]:
    """The distinct texts of a file, in its order.

    A text that occurs more than once counts once, and not at all if its rows disagree about its label or its
    second attribute. Raises UserError, with the file, the row and the column, for a file that cannot be read,
    a missing column, a value that is not usable, and fewer than two labels.
    """
    found: dict[str, Example] = {}
    ambiguous: set[str] = set()
    for each in read_examples(name, columns):
        first = found.setdefault(each.text, each)
        if (first.label, first.attribute) != (each.label, each.attribute):
            ambiguous.add(each.text)
    kept = [each for text, each in found.items() if text not in ambiguous]
    if not found:
        raise UserError(f"{name} has no rows")
    labels = list(dict.fromkeys(each.label for each in kept))
    if len(labels) < 2:
        only = f"only the label '{labels[0]}'" if labels else "no text with one label"
        raise UserError(f"{name} has {only}; texts of at least two labels are needed")
    return kept


def by_class(
    name: str, rows: Sequence[Example], train: int, test: int, *, seed: int
) -> tuple[Mapping[str, Texts], Mapping[str, Texts]]:
    """Texts of each class for training and for testing, at most `train // 2` and `test // 2` per class.

    All classes have the same number of texts, that of the smallest class. Classes are in the order of their
    first text in the file. Raises Skip for a class with too few texts.
    """
    classes = list(dict.fromkeys(each.label for each in rows))
    parts = _parted(rows, train, test, seed)

    def half(part: Part, most: int) -> dict[str, Texts]:
        groups = {c: [each for each in parts[part] if each.label == c] for c in classes}
        _check(name, part, {f"label '{c}'": len(of) for c, of in groups.items()}, min(FEWEST, most))
        number = min(most, *map(len, groups.values()))
        return {c: _some(of, number, seed) for c, of in groups.items()}

    return half("train", train // 2), half("test", test // 2)


def corners(
    name: str, rows: Sequence[Example], pair: tuple[str, str], train: int, test: int, *, seed: int
) -> tuple[Mapping[tuple[int, int], Texts], Mapping[tuple[int, int], Texts]]:
    """Texts of two classes crossed with the two values of the second attribute.

    At most `train // 4` and `test // 4` texts per corner, and twice as many in (0, 0) and (1, 1). Raises Skip
    for a corner with too few texts, and UserError as `values_of` does and for an unknown class.
    """
    values = values_of(name, rows)
    for label in pair:
        if all(each.label != label for each in rows):
            raise UserError(f"{name} has no text with the label '{label}'")
    parts = _parted([each for each in rows if each.label in pair], train, test, seed)

    def half(part: Part, most: int) -> dict[tuple[int, int], Texts]:
        groups = {
            (i, j): [each for each in parts[part] if (each.label, each.attribute) == (label, value)]
            for i, label in enumerate(pair)
            for j, value in enumerate(values)
        }
        named = {f"label '{pair[i]}' and attribute '{values[j]}'": len(of) for (i, j), of in groups.items()}
        _check(name, part, named, min(FEWEST // 2, most))
        number = min(most, *(len(of) // (1 + (i == j)) for (i, j), of in groups.items()))
        return {(i, j): _some(of, number * (1 + (i == j)), seed) for (i, j), of in groups.items()}

    return half("train", train // 4), half("test", test // 4)


def values_of(name: str, rows: Sequence[Example]) -> tuple[str, str]:
    """The two values of the second attribute, in the order of their first text in the file.

    Raises UserError if there is no second attribute or if it does not have exactly two values.
    """
    found = list(dict.fromkeys(each.attribute for each in rows if each.attribute is not None))
    if not found:
        raise UserError(
            f"{name} has no column 'attribute', the second attribute to correlate with the labels; the "
            "option columns can name another column, e.g. columns={attribute: gender}"
        )
    if len(found) != 2:
        raise UserError(
            f"the column 'attribute' of {name} must have two values, and it has {len(found)}: "
            f"{', '.join(found[:5])}{', …' if len(found) > 5 else ''}"
        )
    return found[0], found[1]


def _some(examples: Sequence[Example], number: int, seed: int) -> Texts:
    """`number` of the texts, drawn with the seed, in the order of the file."""
    drawn = sorted(range(len(examples)), key=lambda i: _position(examples[i].text, seed))[:number]
    return tuple(examples[i].text for i in sorted(drawn))


def _parted(rows: Iterable[Example], train: int, test: int, seed: int) -> dict[Part, list[Example]]:
    parts: dict[Part, list[Example]] = {"train": [], "test": []}
    for each in rows:
        of_test = _position(each.text, seed) < test / (train + test)
        parts[each.part or ("test" if of_test else "train")].append(each)
    return parts


def _position(text: str, seed: int) -> float:
    """A number in [0, 1) that depends only on the text and the seed."""
    digest = blake2b(text.encode(), key=str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _check(name: str, part: Part, counts: Mapping[str, int], fewest: int) -> None:
    which, number = min(counts.items(), key=lambda each: each[1])
    if number < fewest:
        of_all = f", the fewest of its {len(counts)} labels" if len(counts) > 4 else ""
        raise Skip(
            f"{name} has {number} {part} texts with {which}{of_all}, and at least {fewest} are needed; add "
            "texts, or state in a column 'split' which texts are for training and which for testing"
        )


def read_examples(name: str, columns: Columns) -> Iterator[Example]:
    """Every row of a file, in its order; see `examples` for the errors of reading it."""
    of_package = name.startswith(sae_probes.PREFIX)
    rows = sae_probes.rows(name) if of_package else read_file(Path(name))
    reader = _Reader(name, _OF_SAE_PROBES if of_package else columns)
    for number, row in enumerate(rows, 1):
        yield reader.example(row, number)


class _Reader:
    """Reads rows of one file; see `examples` for the errors."""

    def __init__(self, name: str, columns: Columns) -> None:
        self._name = name
        self._names: dict[Column, str] = {
            column: columns.get(column, column) for column in ("text", "label", "attribute", "split")
        }
        self._given = set(columns)

    def example(self, row: Mapping[str, Any], number: int) -> Example:
        text = self._value(row, "text", number)
        if not isinstance(text, str):
            raise self._wrong(number, "text", text, "text is needed")
        label = self._label(row, "label", number)
        attribute = self._label(row, "attribute", number) if self._has(row, "attribute") else None
        part = self._part(row, number) if self._has(row, "split") else None
        return Example(text, label, attribute, part)

    def _has(self, row: Mapping[str, Any], column: Column) -> bool:
        return self._names[column] in row or column in self._given

    def _value(self, row: Mapping[str, Any], column: Column, number: int) -> Any:
        name = self._names[column]
        if name not in row:
            raise UserError(
                f"{self._name}: row {number} has no column '{name}'; it has {', '.join(map(str, row))}. The "
                f"option columns can name another column, e.g. columns={{{column}: NAME}}"
            )
        value = row[name]
        if value is None or (isinstance(value, str) and not value.strip()):
            raise UserError(f"{self._name}: row {number} is empty in column '{name}'")
        return value

    def _label(self, row: Mapping[str, Any], column: Column, number: int) -> str:
        value = self._value(row, column, number)
        if not isinstance(value, str | int):
            raise self._wrong(number, column, value, "a label must be text or a whole number")
        if len(str(value)) > _LONGEST_LABEL:
            raise self._wrong(number, column, value, f"a label has at most {_LONGEST_LABEL} characters")
        return str(value)

    def _part(self, row: Mapping[str, Any], number: int) -> Part:
        value = self._value(row, "split", number)
        for part in _PARTS:
            if value == part:
                return part
        raise self._wrong(number, "split", value, "it must be train or test")

    def _wrong(self, number: int, column: Column, value: object, why: str) -> UserError:
        return UserError(
            f"{self._name}: row {number} has {value!r:.80} in column '{self._names[column]}': {why}"
        )
