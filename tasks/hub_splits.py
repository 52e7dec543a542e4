"""Splits of hub data sets: opened with their failures as sentences, and texts picked by their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from abench import UserError
from abench.hub import data_set_commit, offline_reason, refusal

Texts = tuple[str, ...]

Revisions = Mapping[str, str]
"""Hub id of a data set -> commit, tag or branch that is read."""
AS_THEY_ARE: Revisions = MappingProxyType({})
"""No data set is held at a revision: each is read as it is now."""

_SCRIPTED = {"codeparrot/github-code": "data/train-*.parquet"}
"""Repositories whose loading script only renames columns -> the files it reads, to be read without it."""


def load_hub_split(
    repository: str,
    split: str,
    config: str | None = None,
    revision: str | None = None,
    *,
    streaming: bool = False,
) -> Any:
    """A split of a hub data set as a datasets.Dataset, or as an IterableDataset if `streaming`.

    `revision` is a commit, a tag or a branch; None is the data set as it is now. Whole splits come from the
    cache of this machine where HF_HUB_OFFLINE is set. Raises UserError, at once, where the hub cannot be
    reached, and for whatever else keeps the data set from being opened.
    """
    import datasets

    reason = offline_reason()
    if reason is not None and (streaming or not datasets.config.HF_HUB_OFFLINE):
        raise UserError(f"the data set {repository} cannot be read: {reason}")
    commit = data_set_commit(repository, revision)
    source: dict[str, Any] = {"path": repository, "name": config, "revision": revision}
    if repository in _SCRIPTED:
        at = "" if commit is None else f"@{commit}"
        files = f"hf://datasets/{repository}{at}/{_SCRIPTED[repository]}"
        source = {"path": "parquet", "data_files": {split: files}}
    try:
        opened = datasets.load_dataset(**source, split=split, streaming=streaming)
    except Exception as error:
        # The hub's client raises a dozen unrelated types here.
        cause = refusal(error, repository, revision) or _cause(error)
        also = "" if reason is None else f", and {reason}"
        raise UserError(f"the data set {repository} cannot be read: {cause}{also}") from error
    if not streaming:
        check_commit(opened, commit, repository, revision)
    return opened


def _cause(error: Exception) -> str:
    """What an error of datasets says; each message, but one, names the cause."""
    from datasets.exceptions import DatasetGenerationError

    hidden = isinstance(error, DatasetGenerationError)
    lines = str(error.__cause__ if hidden else error).strip().splitlines() or [type(error).__name__]
    said = f"{lines[0]} … {lines[-1]}" if hidden and len(lines) > 1 else lines[0]
    return said.rstrip(" .")


def check_commit(opened: Any, commit: str | None, repository: str, revision: str | None) -> None:
    """UserError if a split (datasets.Dataset) is of another commit; None is any.

    Where the hub does not answer or knows no such revision, datasets takes the state that was prepared last.
    """
    found = Path(opened.cache_files[0]["filename"]).parent.name
    if commit not in (None, found):
        raise UserError(
            f"the data set {repository} cannot be read: what this machine has of it is not revision "
            f"'{revision or 'main'}'; run once where the hub can be reached"
        )


class LabelledSplit:
    """A whole split: a column of texts, and columns of labels as text (`0`, `1.0`), like sae-bench."""

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
        """`number` texts drawn from those with the given labels."""
        return self._checked(self._where(number, where).sample(n=number, random_state=seed))

    def first(self, number: int, where: Mapping[str, str]) -> Texts:
        """The first `number` texts with the given labels."""
        return self._checked(self._where(number, where)[:number])

    def _where(self, number: int, where: Mapping[str, str]) -> Any:
        """The texts with the given labels, at least `number`."""
        found = self._texts
        for column, value in where.items():
            found = found[self._labels[column].loc[found.index] == value]
        if len(found) < number:
            what = " and ".join(f"{column} {value}" for column, value in where.items())
            raise UserError(f"{self.name} has {len(found)} texts with {what}, but {number} are needed")
        return found

    def _checked(self, texts: Any) -> Texts:
        return without_empty(self.name, texts.tolist())


def check_columns(name: str, wanted: Sequence[str], found: Iterable[str]) -> None:
    """UserError for a column that is wanted but not found."""
    for column in wanted:
        if column not in found:
            raise UserError(f"{name} has no column '{column}'; it has {', '.join(sorted(found))}")


def without_empty(name: str, texts: Sequence[Any]) -> Texts:
    """The texts; UserError if some of them are empty or missing."""
    empty = sum(not isinstance(text, str) or not text.strip() for text in texts)
    if empty:
        raise UserError(f"{name} has empty texts, {empty} of the {len(texts)} that were taken")
    return tuple(texts)
