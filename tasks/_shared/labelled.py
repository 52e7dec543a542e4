"""Labelled texts for training and testing probes: from the tiny world, the hub (sae-bench's ids), or files.

The evaluation's seed alone determines the texts, so all SAEs of a comparison see the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from abench import Amount, Context, UserError
from abench.tinyworld import World

from . import labelled_files, labelled_hub
from .labelled_files import Columns, Example
from .revisions import AS_THEY_ARE, Revisions

TINY_CLASSES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "tinyworld/biographies": (
        "biography",
        "profession",
        ("professor", "nurse", "surgeon", "journalist", "teacher"),
    ),
    "tinyworld/biographies_gender": ("biography", "gender", ("male", "female")),
    "tinyworld/reviews": ("review", "category", ("book", "film", "camera", "hotel", "jacket")),
    "tinyworld/reviews_sentiment": ("review", "sentiment", ("negative", "positive")),
}
"""Data set of the tiny world -> kind of document, attribute that is the class, classes."""

TINY_PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "tinyworld/biographies": (
        ("professor", "nurse"),
        ("architect", "journalist"),
        ("surgeon", "dentist"),
        ("lawyer", "teacher"),
    ),
    "tinyworld/reviews": (
        ("book", "film"),
        ("camera", "guitar"),
        ("jacket", "lantern"),
        ("restaurant", "hotel"),
    ),
}
"""Data set of the tiny world -> pairs of classes for spurious correlations."""

_SECOND = {
    "biography": ("profession", "gender", ("male", "female")),
    "review": ("category", "sentiment", ("positive", "negative")),
}
"""Kind of document -> first attribute, second attribute, values of the second."""


@dataclass(frozen=True)
class Labelled:
    """Texts of several classes: class -> texts, the same number of each class."""

    name: str
    train: Mapping[str, tuple[str, ...]]
    test: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Quadrants:
    """Texts of two classes crossed with two values of a second attribute.

    The corners (0, 0) and (1, 1), from which alone a biased probe learns, have twice as many texts as the
    others. `train[first, second]` are the texts of class `first` (0 or 1) with value `second` (0 or 1).
    """

    name: str
    classes: tuple[str, str]
    values: tuple[str, str]
    train: Mapping[tuple[int, int], tuple[str, ...]]
    test: Mapping[tuple[int, int], tuple[str, ...]]


_Data = TypeVar("_Data", Labelled, Quadrants)


def is_tiny(ctx: Context) -> bool:
    """Whether a run uses the tiny world's data."""
    return ctx.data.source == "tinyworld"


def probing_data_sets(ctx: Context) -> tuple[str, ...]:
    """Names of the labelled data sets in a run's data source."""
    return tuple(TINY_CLASSES) if is_tiny(ctx) else labelled_hub.names()


NO_COLUMNS: Columns = MappingProxyType({})
"""The columns of files have their default names."""


def labelled(
    name: str,
    ctx: Context,
    *,
    train: int,
    test: int,
    revisions: Revisions = AS_THEY_ARE,
    columns: Columns = NO_COLUMNS,
) -> Labelled:
    """A data set with `train` and `test` texts per binary task, that is, half as many per class.

    If there is a second attribute, its values are balanced within each class, except in files. A file may
    have fewer texts; all classes have as many as its smallest one then. A limited evaluation gets fewer
    texts, but some of each class. `revisions` pins hub repositories to a commit, tag or branch; `columns` are
    the names of files' columns. Raises Skip for too few texts, and UserError for an unknown name or a data
    set that cannot be read.
    """
    train, test = _limited(train, ctx), _limited(test, ctx)
    read = partial(_labelled, name, ctx, train, test, revisions, columns)
    data = ctx.once(("labelled", name, train, test), read)
    return _recorded(data, ctx, len(data.train) * (train // 2 + test // 2))


def _labelled(
    name: str, ctx: Context, train: int, test: int, revisions: Revisions, columns: Columns
) -> Labelled:
    if labelled_files.is_file(name):
        rows, seed = file_rows(name, ctx, columns), ctx.evaluation.seed
        return Labelled(name, *labelled_files.by_class(name, rows, train, test, seed=seed))
    if name in labelled_hub.names():
        seed = ctx.evaluation.seed
        return Labelled(name, *labelled_hub.texts_by_class(name, train, test, seed=seed, revisions=revisions))
    if name not in TINY_CLASSES:
        known = ", ".join([*TINY_CLASSES, *labelled_hub.names()])
        raise UserError(
            f"there is no labelled data set '{name}'; available are {known}, those of the package sae-probes "
            "(sae-probes/5_hist_fig_ismale) and files (.csv, .jsonl, .parquet)"
        )
    kind, attribute, classes = TINY_CLASSES[name]
    return Labelled(
        name,
        {c: _tiny_texts(kind, {attribute: c}, "train", train // 2, ctx) for c in classes},
        {c: _tiny_texts(kind, {attribute: c}, "test", test // 2, ctx) for c in classes},
    )


def quadrants(
    name: str,
    pair: tuple[str, str],
    ctx: Context,
    *,
    train: int,
    test: int,
    revisions: Revisions = AS_THEY_ARE,
    columns: Columns = NO_COLUMNS,
) -> Quadrants:
    """A pair of classes crossed with the data set's second attribute.

    The corners (0, 1) and (1, 0) have `train` / 4 texts each, the two others `train` / 2 each, so that every
    probe learns from `train` texts. The same holds for `test`, and for sae-bench's corners
    (`scr_and_tpp.dataset_creation.get_spurious_corr_data`). A file may have fewer texts, in the same ratio.

    Raises Skip and UserError as `labelled` does, and UserError for a data set without a second attribute.
    """
    train, test = _limited(train, ctx), _limited(test, ctx)
    read = partial(_quadrants, name, pair, ctx, train, test, revisions, columns)
    return _recorded(
        ctx.once(("quadrants", name, pair, train, test), read), ctx, 6 * (train // 4 + test // 4)
    )


def file_rows(name: str, ctx: Context, columns: Columns) -> list[Example]:
    """The texts of a file, read once; raises UserError as `labelled_files.examples` does."""
    return ctx.once(("labelled file", name), partial(labelled_files.examples, name, columns))


def _quadrants(
    name: str,
    pair: tuple[str, str],
    ctx: Context,
    train: int,
    test: int,
    revisions: Revisions,
    columns: Columns,
) -> Quadrants:
    if labelled_files.is_file(name):
        rows, seed = file_rows(name, ctx, columns), ctx.evaluation.seed
        values = labelled_files.values_of(name, rows)
        return Quadrants(
            name, pair, values, *labelled_files.corners(name, rows, pair, train, test, seed=seed)
        )
    if name in labelled_hub.names():
        return Quadrants(name, pair, *labelled_hub.corners(name, pair, train, test, revisions=revisions))
    if name not in TINY_PAIRS:
        raise UserError(f"the data set '{name}' has no second attribute to correlate with its classes")
    kind = TINY_CLASSES[name][0]
    first, second, values = _SECOND[kind]

    def corners(split: str, number: int) -> dict[tuple[int, int], tuple[str, ...]]:
        return {
            (i, j): _tiny_texts(
                kind, {first: pair[i], second: values[j]}, split, number * (1 + (i == j)), ctx
            )
            for i in (0, 1)
            for j in (0, 1)
        }

    return Quadrants(name, pair, values, corners("train", train // 4), corners("test", test // 4))


def _recorded(found: _Data, ctx: Context, requested: int) -> _Data:
    """Record the number of texts and return them; only files may have fewer than requested."""
    number = sum(len(texts) for part in (found.train, found.test) for texts in part.values())
    ctx.used(Amount("texts", number, requested if labelled_files.is_file(found.name) else number))
    return found


def _limited(number: int, ctx: Context) -> int:
    """The number of texts under the evaluation's limit; at least one for each of two classes × two values."""
    limit = ctx.evaluation.limit
    return number if limit is None else max(4, min(number, limit))


def _tiny_texts(
    kind: str, fixed: Mapping[str, str], split: str, number: int, ctx: Context
) -> tuple[str, ...]:
    """Distinct texts of one class; attributes that are not fixed are balanced over all their values."""
    _, second, values = _SECOND[kind]
    world, seed = World(), ctx.evaluation.seed
    if second in fixed:
        # An even mixture of the first attribute's values, without correlation.
        return tuple(d.text for d in world.sample(kind, split, number, seed=seed, correlation=0.0, **fixed))
    return tuple(
        document.text
        for value in values
        for document in world.sample(kind, split, number // 2, seed=seed, **{**fixed, second: value})
    )
