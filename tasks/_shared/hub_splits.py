"""Whole splits of hub data sets, and selection of their texts by label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from abench import Skip, UserError, load_hub_split

Texts = tuple[str, ...]


class LabelledSplit:
    """A whole split: a column of texts, and columns of labels as text (`0`, `1.0`), as in sae-bench."""

    def __init__(
        self, repository: str, half: str, text: str, labels: Sequence[str], revision: str | None = None
    ) -> None:
        dataset = load_hub_split(repository, half, None, revision)
        self.labels = tuple(labels)
        self.name = f"the {half} split of {repository}"
        check_columns(self.name, [text, *labels], dataset.column_names)
        frame = dataset.select_columns([text, *labels]).to_pandas()
        self._texts = frame[text]
        self._labels = {column: frame[column].map(str) for column in labels}

    def values(self, column: str) -> list[str]:
        """The values of a column of labels, sorted."""
        return sorted(self._labels[column].unique())

    def sample(self, number: int, where: Mapping[str, str], seed: int) -> Texts:
        """`number` random texts with the given labels."""
        return self._checked(self._where(number, where).sample(n=number, random_state=seed))

    def first(self, number: int, where: Mapping[str, str]) -> Texts:
        """The first `number` texts with the given labels."""
        return self._checked(self._where(number, where)[:number])

    def _where(self, number: int, where: Mapping[str, str]) -> Any:
        """The texts with the given labels; raises Skip if there are fewer than `number`."""
        found = self._texts
        for column, value in where.items():
            found = found[self._labels[column].loc[found.index] == value]
        if len(found) < number:
            what = " and ".join(f"{column} {value}" for column, value in where.items())
            raise Skip(f"{self.name} has {len(found)} texts with {what}, but {number} are needed")
        return found

    def _checked(self, texts: Any) -> Texts:
        return without_empty(self.name, texts.tolist())


def check_columns(name: str, wanted: Sequence[str], found: Iterable[str]) -> None:
    """Raise UserError if a wanted column is not found."""
    for column in wanted:
        if column not in found:
            raise UserError(f"{name} has no column '{column}'; it has {', '.join(sorted(found))}")


def without_empty(name: str, texts: Sequence[Any]) -> Texts:
    """The texts; raises UserError if some of them are empty or missing."""
    empty = sum(not isinstance(text, str) or not text.strip() for text in texts)
    if empty:
        raise UserError(f"{name} has empty texts: {empty} of the {len(texts)} texts taken")
    return tuple(texts)
