"""Validation of a judge on units that are made up from the tiny world's labels, and on units about nothing.

A unit about a label is active on the words with that label; a unit about two labels has one on each side; a
unit about nothing is active on one random word of some random windows. A judge is right on a unit about
something if it detects it, and on a unit about nothing if it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import islice
from random import Random
from typing import Any

from abench import Context, UserError
from abench.judges import share
from abench.tinyworld import World

from .._shared.tiny_labels import labels_of
from .judges import Answer, Explainer, detection
from .sampling import Sizes
from .windows import Examples, Window

_DOCUMENTS = 1500
_LEAST = 60
"""Minimum number of words with a label in these documents, for the label to be used."""
_MOST_DOCUMENTS = 0.2
"""Maximum share of documents that contain a label, so that there are enough windows without it."""
KINDS = ("one label", "nothing", "two labels", "nothing")
"""The kinds of made-up units, in turn."""


def validation(
    judge: Explainer, ctx: Context, *, number: int, sizes: Sizes, explained_from: float
) -> dict[str, Any]:
    """A judge's accuracy on made-up units, [share, low, high, n], in all and by kind; cached.

    Raises UserError if none of the judge's answers can be read.
    """
    made = {"number": number, "sizes": vars(sizes), "from": explained_from, "seed": ctx.evaluation.seed}
    spec = {"task": "autointerp", "validation": 1, **made, "judge": judge.spec()}
    found = ctx.kept.get(spec)
    if found is None:
        units = made_up(number, sizes, seed=ctx.evaluation.seed)
        answers = judge.answers([unit for _, unit in units])
        found = _counted(judge.name, units, answers, explained_from)
        ctx.kept.put(spec, found)
    result: dict[str, Any] = found
    return result


def _counted(
    name: str, units: Sequence[tuple[str, Examples]], answers: Sequence[Answer], explained_from: float
) -> dict[str, Any]:
    if all(answer.predicted is None for answer in answers):
        raise UserError(
            f"autointerp: the judge {name} gave no readable answer on any of {len(units)} made-up latents: "
            "use another judge"
        )
    # An answer that cannot be read is wrong.
    right = [
        (kind, (kind != "nothing") == (detection(answer.predicted, unit) >= explained_from))
        if answer.predicted is not None
        else (kind, False)
        for (kind, unit), answer in zip(units, answers, strict=True)
    ]
    return {
        "accuracy": _share([each for _, each in right]),
        "by_kind": {
            kind: _share([each for of, each in right if of == kind]) for kind in sorted({k for k, _ in right})
        },
    }


def _share(hits: Sequence[bool]) -> list[float]:
    found = share(sum(hits), len(hits))
    return [found.value, found.low, found.high, found.n]


def made_up(number: int, sizes: Sizes, *, seed: int) -> list[tuple[str, Examples]]:
    """Made-up units with their true kinds, in turn."""
    random = Random(f"autointerp/{seed}")
    return [
        (kind, _unit(kind, sizes, random)) for kind in (KINDS[each % len(KINDS)] for each in range(number))
    ]


def _unit(kind: str, sizes: Sizes, random: Random) -> Examples:
    labels = random.sample(_usable(), {"one label": 1, "two labels": 2}.get(kind, 0))
    active = sizes.top_tested + sizes.weighted_tested
    windows = [
        _active(labels, n, sizes, random) for n in range(sizes.top_shown + sizes.weighted_shown + active)
    ]
    random.shuffle(windows)
    tested = [*windows[:active], *(_inactive(labels, sizes, random) for _ in range(sizes.inactive_tested))]
    random.shuffle(tested)
    shown = sorted(windows[active:], key=lambda window: -window.strength)
    return Examples(tuple(shown), tuple(tested))


def _active(labels: Sequence[str], number: int, sizes: Sizes, random: Random) -> Window:
    """A window around a word with one of the labels in turn, or, without labels, around any word."""
    wanted = labels[number % len(labels)] if labels else None
    place = _anywhere(random) if wanted is None else random.choice(_places()[wanted])
    first, words = _words(place, sizes.around)
    if wanted is None:
        marks = [int(i == place[1] - first) for i in range(len(words))]
    else:
        marks = [_side(word, labels) for word in words]
    return Window(_tokens(words), tuple(marks), random.uniform(1, 10))


def _side(word: str, labels: Sequence[str]) -> int:
    found = [label in labels_of(word) for label in labels]
    return 1 if found[0] else -1 if any(found) else 0


def _inactive(labels: Sequence[str], sizes: Sizes, random: Random) -> Window:
    while True:
        _, words = _words(_anywhere(random), sizes.around)
        if not any(_side(word, labels) for word in words if labels):
            return Window(_tokens(words), (0,) * len(words))


def _words(place: tuple[int, int], around: int) -> tuple[int, list[str]]:
    document, word = place
    words = _documents()[document]
    first = max(0, word - around)
    return first, list(words[first : word + around + 1])


def _tokens(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word if i == 0 else f" {word}" for i, word in enumerate(words))


def _anywhere(random: Random) -> tuple[int, int]:
    document = random.randrange(_DOCUMENTS)
    return document, random.randrange(len(_documents()[document]))


@cache
def _documents() -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(document.words) for document in islice(World().documents("test"), _DOCUMENTS))


@cache
def _places() -> dict[str, list[tuple[int, int]]]:
    places: dict[str, list[tuple[int, int]]] = {}
    for number, words in enumerate(_documents()):
        for position, word in enumerate(words):
            for label in labels_of(word):
                places.setdefault(label, []).append((number, position))
    return places


@cache
def _usable() -> tuple[str, ...]:
    """The labels with enough words that occur in few enough documents."""
    return tuple(
        sorted(
            label
            for label, places in _places().items()
            if len(places) >= _LEAST and len({d for d, _ in places}) <= _MOST_DOCUMENTS * _DOCUMENTS
        )
    )
