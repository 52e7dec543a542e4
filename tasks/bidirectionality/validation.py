"""Validation of a judge on latents that are made up from the tiny world's labels, with known verdicts.

A side about a label has its peaks at words with that label, except for one context in ten, which peaks
anywhere; a side about nothing peaks anywhere. The paper tests its judge in this way (arXiv 2510.00404, Table
5). The oracle judges by the labels from which these latents are made, so for the oracle this tests only its
counting.
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
from abench.judges import PoleJudge, PoleKind, share
from abench.tinyworld import AXES, Document, World

from .._shared.tiny_labels import labels_of

if TYPE_CHECKING:
    from abench import Excerpt, LatentContexts

NOISE = 0.1
"""Share of the contexts that peak anywhere, for a side about a label."""
_DOCUMENTS = 1500
_LEAST = 40
"""Minimum number of words in these documents with a label, for the label to be used."""


@dataclass(frozen=True)
class Place:
    """A word in a document."""

    document: int
    word: int


def validation(judge: PoleJudge, ctx: Context, *, number: int, contexts: int, around: int) -> dict[str, Any]:
    """A judge's accuracies on constructed latents, each [share, low, high, n]; cached, as they cost requests.

    `accuracy` is for distinguishing two-sided, one-sided and structureless latents, as in the paper;
    `by_kind` is the same by true kind; `opposites` is for recognising opposites among the latents that it
    rightly calls two-sided. `opposites_accuracy` is a number (`_opposites_accuracy`).
    Raises UserError if none of the judge's answers can be read.
    """
    made = {"number": number, "contexts": contexts, "around": around, "seed": ctx.evaluation.seed}
    spec = {"task": "bidirectionality", "validation": 2, "noise": NOISE, **made, "judge": judge.spec()}
    found = ctx.kept.get(spec)
    if found is None:
        latents = made_up(number, contexts=contexts, around=around, seed=ctx.evaluation.seed)
        found = _counted([kind for kind, _ in latents], judge, [latent for _, latent in latents])
        ctx.kept.put(spec, found)
    result: dict[str, Any] = found
    return result


def _counted(
    truth: Sequence[PoleKind], judge: PoleJudge, latents: Sequence[LatentContexts]
) -> dict[str, Any]:
    said = [verdict.kind for verdict in judge.judge(latents)]
    if set(said) == {"invalid"}:
        raise UserError(
            f"bidirectionality: the judge {judge.name} gave no readable answer on any of {len(said)} "
            "constructed latents: use another judge"
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
    result["opposites_accuracy"] = _opposites_accuracy(pairs)
    return result | ({"opposites": _share(two_sided)} if two_sided else {})


def _opposites_accuracy(pairs: Sequence[tuple[PoleKind, PoleKind]]) -> float:
    """The mean of the shares on which (truth, verdict) is right among opposites and among other two-sided.

    A latent that is not opposites is right if it is not called that. The two are weighted equally, so that a
    judge that never says `opposites`, or says it of all two-sided latents, has one half.
    """
    shares = []
    for is_opposite in (True, False):
        said = [b for a, b in pairs if _sided(a) == "bidirectional" and (a == "opposites") == is_opposite]
        if said:
            shares.append(sum((b == "opposites") == is_opposite for b in said) / len(said))
    return sum(shares) / len(shares)


def _sided(kind: PoleKind) -> PoleKind:
    """The kind with `opposites` counted as `bidirectional`."""
    return "bidirectional" if kind == "opposites" else kind


def _share(hits: Sequence[bool]) -> list[float]:
    found = share(sum(hits), len(hits))
    return [found.value, found.low, found.high, found.n]


def made_up(number: int, *, contexts: int, around: int, seed: int) -> list[tuple[PoleKind, LatentContexts]]:
    """Made-up latents with their true kinds: a third each two-sided (half opposites), one-sided and none."""
    from abench import LatentContexts

    random = Random(f"validation/{seed}")
    turns: tuple[PoleKind, ...] = (
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
        # Shuffled so that the sign of a side carries no information.
        random.shuffle(sides)
        positive, negative = (_side(label, contexts, around, random) for label in sides)
        made.append((kind, LatentContexts(latent, positive, tuple(map(_turned, negative)))))
    return made


def _labels_for(kind: PoleKind, random: Random) -> tuple[str | None, str | None]:
    """The label that each side is about; None for a side about nothing."""
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
    """Pairs of labels that are not poles of one axis and never occur at the same word."""
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
    """A side's contexts, strongest first, with non-negative values."""
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
    """The words around a place; other words with the label are active too, and a few others weakly."""
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
    """Label -> places of words with it, for labels that are frequent enough."""
    places: dict[str, list[Place]] = {}
    for number, document in enumerate(_documents()):
        for position, word in enumerate(document.words):
            for label in labels_of(word):
                places.setdefault(label, []).append(Place(number, position))
    return MappingProxyType(
        {label: tuple(found) for label, found in sorted(places.items()) if len(found) >= _LEAST}
    )
