"""Labelled texts from the hub, under sae-bench's names; the same seed gives the same texts as sae-bench.

The classes are sae-bench's. Where sae-bench samples from a whole split (biographies, product reviews, news),
so does this module; where it reads a stream until it has enough (Europarl, GitHub code), the stream is the
same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any

from abench import Skip, UserError, load_hub_split

from .hub_splits import LabelledSplit, Texts, check_columns, without_empty
from .revisions import AS_THEY_ARE, Revisions

ByClass = Mapping[str, Texts]
Corners = Mapping[tuple[int, int], Texts]

_AMAZON, _NEWS = "canrager/amazon_reviews_mcauley_1and5", "fancyzhx/ag_news"
_CODE, _EUROPARL = "codeparrot/github-code", "Helsinki-NLP/europarl"

WITH_SECOND_ATTRIBUTE = ("LabHC/bias_in_bios", _AMAZON)
"""Hub ids of the data sets whose texts have a second attribute in addition to their class."""
REPOSITORIES = (*WITH_SECOND_ATTRIBUTE, _NEWS, _EUROPARL, _CODE)
"""Hub ids of all data sets."""

_CODE_FILES = "data/train-*.parquet"
"""The files read by the repository's loading script, which only renames columns."""

_EUROPARL_CONFIGS = {"en": "en-fr", "fr": "fr-it", "de": "de-en", "es": "es-fr", "nl": "nl-pt"}
"""Language -> the language pair from which sae-bench takes it."""

_LANGUAGE_OF = {".c": "C", ".h": "C", ".py": "Python", ".html": "HTML", ".java": "Java"} | dict.fromkeys(
    (".php", ".php3", ".php4", ".php5", ".phps", ".phpt"), "PHP"
)
"""File ending -> programming language, as in the repository's own script."""

_LICENCE_CHARS, _LEAST_CHARS = 50 * 3, 128 * 3
"""Characters dropped from the start of a code file (its licence); more than the second number must remain."""


@cache
def names() -> tuple[str, ...]:
    """The labelled data sets, by sae-bench's names."""
    return tuple(_info().chosen_classes_per_dataset)


def texts_by_class(
    name: str, train: int, test: int, *, seed: int, revisions: Revisions = AS_THEY_ARE
) -> tuple[ByClass, ByClass]:
    """Texts of each class for training and for testing: `train // 2` and `test // 2` per class.

    `revisions` gives the commit, tag or branch of a repository by its id; other repositories are read in
    their current state. Raises Skip for too few texts, and UserError if the hub cannot be reached or a column
    is missing.
    """
    classes = tuple(_info().chosen_classes_per_dataset[name])
    each, at = (train // 2, test // 2), revisions.get(name)
    if name == _EUROPARL:
        return _parted(name, _speeches(sum(each), at), classes, *each, seed)
    if name == _CODE:
        return _parted(name, _programs(classes, sum(each), at), classes, *each, seed)
    halves = (_split(name, "train", revisions), train), (_split(name, "test", revisions), test)
    first, second = (_sampled(split, classes, size, seed) for split, size in halves)
    return first, second


def corners(
    name: str,
    pair: tuple[str, str],
    train: int,
    test: int,
    *,
    revisions: Revisions = AS_THEY_ARE,
) -> tuple[tuple[str, str], Corners, Corners]:
    """Values of the second attribute, and texts of two classes (by sae-bench's names) crossed with them.

    Takes the first `train // 4` and `test // 4` texts of each corner in the data's own order, and twice as
    many for (0, 0) and (1, 1), as sae-bench does.

    Raises Skip and UserError as `texts_by_class` does, and UserError for an unknown class or a data set
    without a second attribute.
    """
    meta = _info().dataset_metadata.get(name.split("_class_set")[0])
    if meta is None:
        raise UserError(f"the data set '{name}' has no second attribute to correlate with its classes")
    known, values = meta["column1_mapping"], meta["column2_mapping"]
    for word in pair:
        if word not in known:
            raise UserError(f"the data set '{name}' has no class '{word}'; it has {', '.join(known)}")
    label, second = meta["column1_name"], meta["column2_name"]

    def read(half: str, number: int) -> Corners:
        split = _split(name, half, revisions)
        return {
            (i, j): split.first(number * (1 + (i == j)), {label: str(known[word]), second: str(value)})
            for i, word in enumerate(pair)
            for j, value in enumerate(values.values())
        }

    first, other = map(str, values)
    return (first, other), read("train", train // 4), read("test", test // 4)


def _split(name: str, half: str, revisions: Revisions) -> LabelledSplit:
    """A split of a data set from which sae-bench samples, with the column of the class first."""
    if name == _NEWS:
        return LabelledSplit(_NEWS, half, "text", ["label"], revisions.get(_NEWS))
    if name == f"{_AMAZON}_sentiment":
        return LabelledSplit(_AMAZON, half, "text", ["rating"], revisions.get(_AMAZON))
    repository = name.split("_class_set")[0]
    meta = _info().dataset_metadata[repository]
    columns = [meta["column1_name"], meta["column2_name"]]
    return LabelledSplit(repository, half, meta["text_column_name"], columns, revisions.get(repository))


def _sampled(split: LabelledSplit, classes: Sequence[str], size: int, seed: int) -> ByClass:
    """`size // 2` texts of each class, balanced over the values of the second attribute if there is one."""
    label, *others = split.labels
    if not others:
        return {c: split.sample(size // 2, {label: c}, seed) for c in classes}
    second = others[0]
    values = split.values(second)
    return {
        c: tuple(t for v in values for t in split.sample(size // 4, {label: c, second: v}, seed))
        for c in classes
    }


def _parted(
    name: str, stream: Iterable[tuple[str, str]], classes: Sequence[str], train: int, test: int, seed: int
) -> tuple[ByClass, ByClass]:
    """The texts of a stream of (class, text), shuffled class by class; the first ones are for training."""
    found: dict[str, list[str]] = {c: [] for c in classes}
    for label, text in stream:
        found[label].append(text)
    random = Random(seed)
    halves: tuple[dict[str, Texts], dict[str, Texts]] = ({}, {})
    for label, texts in found.items():
        if len(texts) < train + test:
            raise Skip(f"{name} has {len(texts)} texts of class {label}, but {train + test} are needed")
        random.shuffle(texts)
        halves[0][label] = without_empty(name, texts[:train])
        halves[1][label] = without_empty(name, texts[train : train + test])
    return halves


def _speeches(wanted: int, revision: str | None) -> Iterator[tuple[str, str]]:
    """Yield (language, text): one text more than wanted per language, the number that sae-bench shuffles."""
    for language, config in _EUROPARL_CONFIGS.items():
        rows = load_hub_split(_EUROPARL, "train", config, revision, streaming=True)
        for number, row in enumerate(rows):
            check_columns(f"{_EUROPARL} ({config})", ["translation"], row)
            check_columns(f"{_EUROPARL} ({config}) translation", [language], row["translation"])
            yield language, row["translation"][language]
            if number == wanted:
                break


def _programs(languages: Sequence[str], wanted: int, revision: str | None) -> Iterator[tuple[str, str]]:
    """Yield (language, code without its licence) until every language has more texts than wanted."""
    counts = dict.fromkeys(languages, 0)
    for row in load_hub_split(_CODE, "train", None, revision, parquet=_CODE_FILES, streaming=True):
        language, code = _language_and_code(row)
        if language not in counts:
            continue
        if len(code) > _LICENCE_CHARS + _LEAST_CHARS:
            counts[language] += 1
            yield language, code[_LICENCE_CHARS:]
        if all(count > wanted for count in counts.values()):
            break


def _language_and_code(row: Mapping[str, Any]) -> tuple[str, str]:
    """Language and code of a row of the repository's files; the name of an unknown language is empty."""
    check_columns(_CODE, ["path", "content"], row)
    _, dot, ending = row["path"].rpartition(".")
    return _LANGUAGE_OF.get(dot + ending, ""), row["content"]


def _info() -> Any:
    """sae-bench's tables of classes and columns; plain data and cheap to import."""
    from sae_bench.sae_bench_utils import dataset_info

    return dataset_info
