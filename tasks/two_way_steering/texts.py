"""Concepts from labelled texts: files of one's own, and sae-bench's data sets on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from abench import FILE_ENDINGS, Context, Skip, UserError

from .._shared.labelled import labelled
from .._shared.labelled_files import Columns
from .._shared.revisions import Revisions
from ..bidirectionality.concepts import OwnConcept, own_concepts
from .classifier import TextClassifier
from .concepts import FEWEST, Sizes, TwoPoles

if TYPE_CHECKING:
    from abench import LanguageModel

FEWEST_TEXTS = 40
"""Minimum number of texts per pole: ten for each of the four uses."""
HUB_CONCEPTS = ("canrager/amazon_reviews_mcauley_1and5_sentiment", "Helsinki-NLP/europarl:en/fr")
"""The concepts of models other than the tiny world's, unless others are named: sentiment and language."""


def file_at(name: str) -> Path | None:
    """The file that the name of a concept stands for; None for an axis or a data set."""
    return Path(name) if Path(name).suffix in FILE_ENDINGS else None


def text_concepts(
    name: str, lm: LanguageModel, ctx: Context, sizes: Sizes, columns: Columns, revisions: Revisions
) -> list[TwoPoles]:
    """The concepts of a file (columns text, pole and, if there are several, concept) or of a data set.

    A data set of more than two classes is named with the two that are meant: `Helsinki-NLP/europarl:en/fr`.
    Raises UserError for texts that cannot be read or used, and Skip for too few texts.
    """
    file = file_at(name)
    given = (
        own_concepts(name, columns, limit=None)
        if file is not None
        else [_of_data_set(name, ctx, sizes, revisions)]
    )
    return [_concept(each, lm, sizes, ctx.evaluation.seed) for each in given]


def _of_data_set(name: str, ctx: Context, sizes: Sizes, revisions: Revisions) -> OwnConcept:
    """The texts of two classes of a labelled data set."""
    data_set, _, classes = name.partition(":")
    train, test = sizes.texts + sizes.classifier, sizes.accuracy + (sizes.validation + sizes.test + 1) // 2
    read = partial(labelled, data_set, ctx, train=2 * train, test=2 * test, revisions=revisions)
    found = ctx.once(("two-way texts", name), read)
    chosen = tuple(classes.split("/")) if classes else tuple(found.train)
    if len(chosen) != 2 or not set(chosen) <= set(found.train):
        raise UserError(
            f"the data set {data_set} has the classes {', '.join(found.train)}; name two of them as its "
            f"poles: {data_set}:{'/'.join([*found.train][:2])}"
        )
    negative, positive = ((*found.train[pole], *found.test[pole]) for pole in chosen)
    return OwnConcept(name, (chosen[0], chosen[1]), (negative, positive))


def _concept(given: OwnConcept, lm: LanguageModel, sizes: Sizes, seed: int) -> TwoPoles:
    shares = [_divided(given, pole, sizes, seed) for pole in (0, 1)]
    stems = [_stems(part["stems"], lm, sizes) for part in shares]
    each = min(len(stems[0]), len(stems[1]))
    if each < 2:
        raise Skip(
            f"{given.name} has {each} texts of a pole that are longer than {sizes.stem_tokens} tokens, and "
            "their beginnings are to be continued: provide longer texts, or set stem_tokens lower"
        )
    # In turn, so that either part has as many beginnings of each pole.
    mixed = [stem for pair in zip(stems[0][:each], stems[1][:each], strict=True) for stem in pair]
    validation = max(1, len(mixed) * sizes.validation // (sizes.validation + sizes.test))
    reader = TextClassifier(*(part["classifier"] for part in shares))
    pieces = [_pieces(part["accuracy"], lm, sizes) for part in shares]
    return TwoPoles(
        given.name,
        given.poles,
        (shares[0]["texts"], shares[1]["texts"]),
        tuple(mixed[:validation]),
        tuple(mixed[validation:]),
        reader,
        reader.accuracy(*pieces),
    )


def _divided(given: OwnConcept, pole: int, sizes: Sizes, seed: int) -> dict[str, tuple[str, ...]]:
    """The texts of a pole for each use: drawn with the seed, in equal shares if there are too few for all."""
    texts = sorted(given.texts[pole], key=partial(_position, seed=seed))
    if len(texts) < FEWEST_TEXTS:
        raise Skip(
            f"{given.name} has {len(texts)} texts of the pole '{given.poles[pole]}', and at least "
            f"{FEWEST_TEXTS} are needed: to find the concept, to train and to test a classifier, and to be "
            "continued"
        )
    wanted = {
        "stems": (sizes.validation + sizes.test + 1) // 2,
        "accuracy": sizes.accuracy,
        "texts": sizes.texts,
        "classifier": sizes.classifier,
    }
    share = min(1.0, len(texts) / sum(wanted.values()))
    found, start = {}, 0
    for use, number in wanted.items():
        size = min(number, max(FEWEST, int(share * number)))
        found[use] = tuple(texts[start : start + size])
        start += size
    if not found["classifier"]:
        raise Skip(f"{given.name} has too few texts of the pole '{given.poles[pole]}' to train a classifier")
    return found


def _stems(texts: Sequence[str], lm: LanguageModel, sizes: Sizes) -> list[str]:
    """The distinct first tokens of the texts that are longer."""
    ids = lm.token_ids(list(texts))
    long = [row[: sizes.stem_tokens] for row in ids if len(row) > sizes.stem_tokens]
    return list(dict.fromkeys(lm.tokenizer.batch_decode(long)))


def _pieces(texts: Sequence[str], lm: LanguageModel, sizes: Sizes) -> list[str]:
    """What follows the beginning of each text, as long as a continuation; short texts whole."""
    found = []
    for text, row in zip(texts, lm.token_ids(list(texts)), strict=True):
        piece = row[sizes.stem_tokens : sizes.stem_tokens + sizes.new_tokens]
        found.append(lm.tokenizer.decode(piece) if piece else text)
    return found


def _position(text: str, seed: int) -> bytes:
    """A place that depends only on the text and the seed, so that rows may be added or moved."""
    return blake2b(text.encode(), key=str(seed).encode(), digest_size=8).digest()
