"""The attributes on which RAVEL is scored, without those that the model or the data cannot give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from abench import Parts, Skip, UserError, usable_parts

from .._shared.settings import setting
from .answers import Known
from .pairs import Experiment
from .prompts import Prompt

Attributes: TypeAlias = Mapping[str, tuple[str, ...]]
"""Kind of entity -> its attributes."""
Problems: TypeAlias = Mapping[tuple[str, str], Skip | UserError]
"""(kind, attribute) -> why there is no score for it."""
Granularity: TypeAlias = Literal["all", "kinds", "attributes"]
"""What may be left out: nothing, whole kinds of entities, or single attributes."""


def selected(
    attributes: Attributes | Literal["available"] | None,
    entities: Sequence[str] | Literal["available"] | int,
    default: Attributes,
) -> Attributes:
    """The attributes that the options `attributes` and `entities` select.

    Raises UserError for a kind of entity without known attributes.
    """
    every = default if attributes is None or attributes == "available" else attributes
    if isinstance(entities, int | str):
        return every
    for kind in entities:
        if kind not in every:
            raise UserError(
                f"ravel: entities of kind '{kind}' have no attributes by default, only {', '.join(every)}; "
                f"name some with {setting('ravel', 'attributes', f'{{{kind}: [FIRST, SECOND]}}')}"
            )
    return {kind: names for kind, names in every.items() if kind in entities}


def without(attributes: Attributes, problems: Problems, *, whole_kinds: bool) -> Attributes:
    """The attributes without problems.

    With `whole_kinds`, a kind with a problem is left out altogether; otherwise only if fewer than two of its
    attributes remain, as one attribute alone has none from which it could be isolated.
    """
    left = {k: tuple(name for name in names if (k, name) not in problems) for k, names in attributes.items()}
    fewest = {k: len(names) if whole_kinds else 2 for k, names in attributes.items()}
    return {k: names for k, names in left.items() if len(names) >= fewest[k]}


def too_few_answers(
    kind: str, names: Sequence[str], asked: Sequence[Prompt], known: Sequence[Known], *, fewest: int
) -> dict[tuple[str, str], Skip | UserError]:
    """The attributes about which the model completes too few prompts correctly."""
    found: dict[tuple[str, str], Skip | UserError] = {}
    for name in names:
        labels = [each.prompt.label for each in known if each.prompt.attribute == name]
        if len(labels) < fewest or len(set(labels)) < 2:
            total = sum(prompt.attribute == name for prompt in asked)
            needed = f"{fewest} needed" if len(labels) < fewest else "all with the same answer"
            found[kind, name] = Skip(
                f"the model completes only {len(labels)} of {total} prompts about the {name} of {kind} "
                f"entities correctly ({needed})"
            )
    return found


def too_few_pairs(made: Iterable[Experiment]) -> dict[tuple[str, str], Skip | UserError]:
    """The attributes with too few pairs for both training and testing."""
    return {
        (each.kind, each.attribute): Skip(
            f"{len(each.train) + len(each.test)} pairs about the {each.attribute} of {each.kind} "
            "entities are too few for both training and testing"
        )
        for each in made
        if not each.train or len({pair.isolates for pair in each.test}) < 2
    }


def scored_parts(
    chosen: Attributes, left: Attributes, problems: Problems, default: Attributes, granularity: Granularity
) -> Parts:
    """The kinds of entities, or their attributes, on which a score rests.

    Raises the problems, all in one sentence, if nothing may be left out or nothing is left.
    """
    lost = [(kind, name) for kind in chosen for name in chosen[kind] if name not in left.get(kind, ())]
    if lost and (granularity == "all" or not left):
        parts = [f"{kind} {name}" for kind in chosen for name in chosen[kind]]
        # An attribute that is lost along with the others of its kind has no sentence of its own.
        of_kind = {kind: error for (kind, _), error in problems.items()}
        named = {f"{kind} {name}": problems.get((kind, name), of_kind[kind]) for kind, name in lost}
        return usable_parts("attributes", parts, named, available=False, go_on=_go_on(chosen, left))
    if all(
        left.get(kind, names) == names and {*default.get(kind, ())} <= {*names}
        for kind, names in chosen.items()
    ):
        return _kinds(chosen, problems, default)
    alone = {place: Skip(f"too few other attributes of {place[0]} entities are left") for place in lost}
    return _attributes(chosen, alone | dict(problems), default)


def _kinds(chosen: Attributes, problems: Problems, default: Attributes) -> Parts:
    by_kind: dict[str, dict[str, None]] = {}
    for (kind, _), error in problems.items():
        by_kind.setdefault(kind, {})[str(error)] = None
    reasons = {kind: "; ".join(texts) for kind, texts in by_kind.items()}
    skipped = dict.fromkeys((kind for kind in default if kind not in chosen), "not selected")
    used = tuple(kind for kind in chosen if kind not in reasons)
    return Parts("kinds of entities", used, skipped | reasons)


def _attributes(chosen: Attributes, problems: Problems, default: Attributes) -> Parts:
    reasons = {f"{kind} {name}": str(error) for (kind, name), error in problems.items()}
    every, wanted = ([f"{k} {n}" for k in each for n in each[k]] for each in (default, chosen))
    skipped = dict.fromkeys((name for name in every if name not in wanted), "not selected")
    used = tuple(name for name in wanted if name not in reasons)
    return Parts("attributes of entities", used, skipped | reasons)


def _go_on(chosen: Attributes, left: Attributes) -> str:
    """What to type to score what is left."""
    whole = [kind for kind, names in chosen.items() if left.get(kind) == names]
    kinds = setting("ravel", "entities", f"[{', '.join(whole)}]")
    if len(whole) == len(left):
        return f"score the others with {kinds}"
    named = ", ".join(f"{kind}: [{', '.join(names)}]" for kind, names in left.items())
    others = f"score the others with {setting('ravel', 'attributes', f'{{{named}}}')}"
    return f"{others}, or whole kinds of entities only with {kinds}" if whole else others
