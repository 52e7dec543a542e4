"""Concepts of one's own: texts of two poles each, from a file, and the latent that differs most per SAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench import Context, UserError, read_file

from .._shared.labelled_files import Columns, Example, Texts, read_examples, title_of

if TYPE_CHECKING:
    from abench import SAE, LanguageModel, LatentDifferences, OfEach

_FEWEST = 2
"""Minimum number of texts per pole."""
_OWN_NAMES = {"label": "pole", "attribute": "concept"}
"""Names of columns that a file of concepts may have in place of those of labelled texts."""


@dataclass(frozen=True)
class OwnConcept:
    """A concept's name, its two poles in the order of their first text, and the texts of each pole."""

    name: str
    poles: tuple[str, str]
    texts: tuple[Texts, Texts]


@dataclass(frozen=True)
class ConceptLatent:
    """The latent of an SAE that a concept moves most, with the pole that each of its sides stands for."""

    concept: str
    latent: int
    positive: str
    negative: str


def own_concepts(name: str, columns: Columns, *, limit: int | None) -> list[OwnConcept]:
    """The concepts of a file with the columns text, pole (or label) and, if there are several, concept.

    Under a limit, only the first `limit // 2` texts of each pole, but at least two, are used. Raises
    UserError for a file that cannot be read and for a concept without exactly two poles of at least two texts
    each.
    """
    first = next(iter(read_file(Path(name))), {})
    names = {column: own for column, own in _OWN_NAMES.items() if own in first}
    groups: dict[str, list[Example]] = {}
    for each in read_examples(name, {**names, **columns}):
        groups.setdefault(each.attribute or Path(title_of(name)).stem, []).append(each)
    if not groups:
        raise UserError(f"{name} has no rows")
    most = None if limit is None else max(_FEWEST, limit // 2)
    return [_concept(name, concept, rows, most) for concept, rows in groups.items()]


def _concept(name: str, concept: str, rows: Sequence[Example], most: int | None) -> OwnConcept:
    texts: dict[str, dict[str, None]] = {}
    for each in rows:
        texts.setdefault(each.label, {})[each.text] = None
    if len(texts) != 2:
        raise UserError(
            f"{name}: the concept '{concept}' must have two poles, and it has {len(texts)}: "
            f"{', '.join([*texts][:5])}{', …' if len(texts) > 5 else ''}"
        )
    (first, of_first), (second, of_second) = texts.items()
    # A text of both poles says nothing about their difference.
    parted = tuple(
        tuple(text for text in a if text not in b) for a, b in ((of_first, of_second), (of_second, of_first))
    )
    for pole, found in zip((first, second), parted, strict=True):
        if len(found) < _FEWEST:
            raise UserError(
                f"{name}: the pole '{pole}' of the concept '{concept}' has {len(found)} texts, and at least "
                f"{_FEWEST} are needed"
            )
    return OwnConcept(concept, (first, second), (parted[0][:most], parted[1][:most]))


class ConceptLatents:
    """For each SAE, the latent whose mean code differs most between the poles of each concept."""

    def __init__(self, concepts: Sequence[OwnConcept], lm: LanguageModel, ctx: Context) -> None:
        from abench import latent_differences

        self._differences: list[tuple[OwnConcept, OfEach[LatentDifferences]]] = [
            (each, latent_differences(lm, ctx.saes, *each.texts, ctx.site, pooling="mean"))
            for each in ctx.track(concepts, "bidirectionality: latents of concepts", "concepts")
        ]

    def of(self, sae: SAE) -> list[ConceptLatent]:
        """One per concept, but none for a concept by which no latent differs; raises an SAE's own error."""
        found = []
        for concept, differences in self._differences:
            most = differences(sae)
            if most.sign:
                positive, negative = concept.poles[:: most.sign]
                found.append(ConceptLatent(concept.name, most.latent, positive, negative))
        return found


def judged(concepts: Sequence[ConceptLatent], kinds: dict[int, str]) -> list[dict[str, Any]]:
    """The concepts as plain JSON, with the verdict on their latents; none for one that never fires."""
    return [
        {
            "concept": each.concept,
            "latent": each.latent,
            "positive": each.positive,
            "negative": each.negative,
            **({"kind": kinds[each.latent]} if each.latent in kinds else {}),
        }
        for each in concepts
    ]
