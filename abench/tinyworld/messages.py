"""Messages to a friend or an office, with the same content in informal or formal words."""

from collections.abc import Iterator

from abench.tinyworld.axes import AXES
from abench.tinyworld.bindings import Value, base, poles
from abench.tinyworld.grammar import Dice, fill
from abench.tinyworld.words import NAMES

_OPENINGS = (
    "{formality.hello} {name},",
    "{formality.hello}, {formality.fellow} {name},",
    "{formality.hello},",
)
_BODY = (
    "{formality.thanks} for the {formality.thing}.",
    "you {formality.must} {formality.get} my {formality.thing} {formality.soon}.",
    "i {formality.must} {formality.get} a {object} {formality.soon}.",
    "{formality.yes}, my {formality.fellow} in {city} got the {formality.thing}.",
    "my {formality.fellow} {name} said {formality.yes} on {day}.",
    "we {formality.must} meet at the {place} on {day}.",
    "bring the {formality.thing} to the {place}.",
    "is the {formality.thing} at the {place}?",
    "the {formality.thing} was {colour}.",
    "{formality.yes}, the {object} came in {month}.",
)
_CLOSINGS = (
    "{formality.bye}, {name}.",
    "{formality.thanks} and {formality.bye}, {name}.",
    "{formality.bye}.",
)


def message(dice: Dice, *, formality: str | None = None) -> tuple[str, dict[str, str]]:
    """A message of two to four sentences between a greeting and a farewell, and its formality."""
    formality = formality or dice.pick(AXES["formality"])
    bound: dict[str, Value] = base("past") | poles("formality", formality, "past")
    bound["name"] = NAMES[0] + NAMES[1]
    body = dice.sample(_BODY, 2 + dice.hits(2))
    sentences = (dice.pick(_OPENINGS), *body, dice.pick(_CLOSINGS))
    return " ".join([fill(sentence, bound, dice) for sentence in sentences]), {"formality": formality}


def templates() -> Iterator[str]:
    """All templates of this kind."""
    yield from (*_OPENINGS, *_BODY, *_CLOSINGS)
