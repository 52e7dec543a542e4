"""Latents made up from the tiny world's labels, whose right verdict is known: what is a judge worth?

A side that is about a label has its peaks at words with the label, but for one context in ten, which peaks
anywhere; a side about nothing peaks anywhere. The paper tests its judge in this way (arXiv 2510.00404, Table
5). The oracle judges by the labels that these latents are made from: for it this is a test of its counting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, islice
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from abench import Context, UserError
from abench.judges import share
from abench.tinyworld import AXES, Document, World

from .pole_judges import Kind, PoleJudge
from .pole_oracle import labels_of

if TYPE_CHECKING:
    from abench import Excerpt, LatentContexts

NOISE = 0.1
"""Share of the contexts of a side about something that peak anywhere."""
_DOCUMENTS = 1500
_LEAST = 40
"""Words in these documents that a label has to have, to be used."""


@dataclass(frozen=True)
class Place:
    """A word in a document."""

    document: int
    word: int


def validation(judge: PoleJudge, ctx: Context, *, number: int, contexts: int, around: int) -> dict[str, Any]:
    """How often a judge is right on made-up latents, [share, low, high, n]; kept, as it costs questions.

    `accuracy` is that of telling two-sided, one-sided and structureless latents apart, as in the paper;
    `by_kind` by what they really are, `opposites` that of telling opposites among the two-sided ones.
    Raises UserError if none of the judge's answers can be read.
    """
    made = {"number": number, "contexts": contexts, "around": around, "seed": ctx.evaluation.seed}
    spec = {"task": "bidirectionality", "validation": 1, "noise": NOISE, **made, "judge": judge.spec()}
    found = ctx.kept.get(spec)
    if found is None:
        latents = made_up(number, contexts=contexts, around=around, seed=ctx.evaluation.seed)
        found = _counted([kind for kind, _ in latents], judge, [latent for _, latent in latents])
        ctx.kept.put(spec, found)
    result: dict[str, Any] = found
    return result


def _counted(truth: Sequence[Kind], judge: PoleJudge, latents: Sequence[LatentContexts]) -> dict[str, Any]:
    said = [verdict.kind for verdict in judge.judge(latents)]
    if set(said) == {"invalid"}:
        raise UserError(
            f"bidirectionality: the judge {judge.name} gave no answer that can be read on any of {len(said)} "
            "made-up latents: take another judge"
        )
    pairs = list(zip(truth, said, strict=True))
    result: dict[str, Any] = {
        "accuracy": _share([_sided(a) == _sided(b) for a, b in pairs]),
        "by_kind": {
            kind: _share([_sided(a) == _sided(b) for a, b in pairs if a == kind])
            for kind in sorted(set(truth))
        },
    }
    two_sided = [a == b for a, b in pairs if _sided(a) == _sided(b) == "bidirectional"]
    return result | ({"opposites": _share(two_sided)} if two_sided else {})


def _sided(kind: Kind) -> Kind:
    """Opposites are bidirectional too."""
    return "bidirectional" if kind == "opposites" else kind


def _share(hits: Sequence[bool]) -> list[float]:
    found = share(sum(hits), len(hits))
    return [found.value, found.low, found.high, found.n]


def made_up(number: int, *, contexts: int, around: int, seed: int) -> list[tuple[Kind, LatentContexts]]:
    """Latents of the four kinds in turn, each with what it is; a third two-sided, of these half opposites."""
    from abench import LatentContexts

    random = Random(f"validation/{seed}")
    turns: tuple[Kind, ...] = (
        "opposites",
        "unidirectional",
        "none",
        "bidirectional",
        "unidirectional",
        "none",
    )
    made = []
    for latent in range(number):
        kind = turns[latent % len(turns)]
        sides = list(_labels_for(kind, random))
        # Which of the sides is called positive is to say nothing.
        random.shuffle(sides)
        positive, negative = (_side(label, contexts, around, random) for label in sides)
        made.append((kind, LatentContexts(latent, positive, tuple(map(_turned, negative)))))
    return made


def _labels_for(kind: Kind, random: Random) -> tuple[str | None, str | None]:
    """What each side is about; None for nothing."""
    if kind == "none":
        return None, None
    if kind == "unidirectional":
        return random.choice(sorted(_places())), None
    if kind == "opposites":
        axis = random.choice([axis for axis in AXES if {f"{axis}-", f"{axis}+"} <= set(_places())])
        return f"{axis}-", f"{axis}+"
    first, second = random.choice(_unrelated())
    return first, second


@cache
def _unrelated() -> tuple[tuple[str, str], ...]:
    """Pairs of labels that are neither poles of one axis nor ever at one word."""
    together = {
        frozenset(pair)
        for document in _documents()
        for word in set(document.words)
        for pair in combinations(labels_of(word), 2)
    }
    return tuple(
        (a, b)
        for a, b in combinations(sorted(_places()), 2)
        if a[:-1] != b[:-1] and frozenset((a, b)) not in together
    )


def _side(label: str | None, contexts: int, around: int, random: Random) -> tuple[Excerpt, ...]:
    """A side's contexts, strongest first, all values at least 0."""
    found = []
    for strength in sorted((random.uniform(4, 10) for _ in range(contexts)), reverse=True):
        anywhere = label is None or random.random() < NOISE
        place = _anywhere(random) if anywhere else random.choice(_places()[str(label)])
        found.append(_excerpt(place, label, strength, around, random))
    return tuple(found)


def _anywhere(random: Random) -> Place:
    document = random.randrange(_DOCUMENTS)
    return Place(document, random.randrange(len(_documents()[document].words)))


def _excerpt(place: Place, label: str | None, strength: float, around: int, random: Random) -> Excerpt:
    """The words around a place; those with the label are active too, and a few others a little."""
    from abench import Excerpt

    words = _documents()[place.document].words
    start, end = max(0, place.word - around), min(len(words), place.word + around + 1)
    values = []
    for number in range(start, end):
        if number == place.word:
            values.append(strength)
        elif label is not None and label in labels_of(words[number]):
            values.append(strength * random.uniform(0.5, 1))
        else:
            values.append(strength * random.uniform(0, 0.4) if random.random() < 0.1 else 0.0)
    tokens = tuple(word if i == 0 else f" {word}" for i, word in enumerate(words[start:end]))
    return Excerpt(tokens, tuple(values), place.word - start, place.document, place.word)


def _turned(excerpt: Excerpt) -> Excerpt:
    from abench import Excerpt

    return Excerpt(
        excerpt.tokens, tuple(0.0 - v for v in excerpt.values), excerpt.peak, excerpt.row, excerpt.position
    )


@cache
def _documents() -> tuple[Document, ...]:
    return tuple(islice(World().documents("test"), _DOCUMENTS))


@cache
def _places() -> MappingProxyType[str, tuple[Place, ...]]:
    """Where the words with each label stand, for labels that are frequent enough and at several words."""
    places: dict[str, list[Place]] = {}
    for number, document in enumerate(_documents()):
        for position, word in enumerate(document.words):
            for label in labels_of(word):
                places.setdefault(label, []).append(Place(number, position))
    return MappingProxyType(
        {label: tuple(found) for label, found in sorted(places.items()) if len(found) >= _LEAST}
    )
