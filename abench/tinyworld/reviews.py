"""Product reviews: category × sentiment, with a given correlation."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from abench.errors import UserError, did_you_mean
from abench.tinyworld.axes import AXES
from abench.tinyworld.bindings import Value, base, poles
from abench.tinyworld.grammar import Dice, fill
from abench.tinyworld.words import COUNTED, PLAIN

CATEGORIES: tuple[str, ...] = tuple(singular for singular, _ in COUNTED["product"])
"""The reviewed products."""

MOSTLY_LIKED = frozenset({"book", "hotel", "guitar", "lantern"})
"""The categories that get good reviews under a positive correlation; the other half gets bad ones."""

_GOT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "book": ("i finished this book on {day}", "this book came in {month}"),
        "film": ("i went to this film on {day}", "we saw the film in {month}"),
        "restaurant": ("we had dinner at this restaurant on {day}", "i found the restaurant in {city}"),
        "hotel": ("we stayed at this hotel in {month}", "i slept in this hotel in {city}"),
        "camera": ("i bought this camera in {month}", "the camera came on {day}"),
        "guitar": ("i bought this guitar in {city}", "my {gender.relative} gave me the guitar"),
        "jacket": ("i wore this jacket on {day}", "i bought the {colour} jacket in {month}"),
        "lantern": ("i bought this {colour} lantern", "the lantern came from {city} in {month}"),
    }
)

_BODY = (
    "the {aspect} was {sentiment.adj}.",
    "the {aspect} and the {aspect} were {sentiment.adj}.",
    "{sentiment.adv}, the {aspect} was {sentiment.adj}.",
    "i {sentiment.verb} the {aspect}.",
    "my {gender.relative} {sentiment.verb} the {sentiment.adj} {aspect}.",
    "it was a {sentiment.noun}.",
    "the {aspect} made me {sentiment.mood}.",
    "for {count} days i was {sentiment.mood} about the {aspect}.",
    "it cost {count} coins.",
    "the {aspect} was {colour}.",
)
_CLOSINGS = (
    "i would {sentiment.advice} this {category}.",
    "please {sentiment.advice} it.",
    "what a {sentiment.adj} {category}.",
    "all in all a {sentiment.noun}.",
    "we were {sentiment.mood} in the end.",
    "my advice: {sentiment.advice} the {category}.",
)
_CORRELATION = 0.4


def review(
    dice: Dice,
    *,
    category: str | None = None,
    sentiment: str | None = None,
    correlation: float = _CORRELATION,
) -> tuple[str, dict[str, str]]:
    """A review of three to five sentences, and its category and sentiment.

    `correlation` is in [−1, 1]: P(the usual sentiment of the category) = (1 + correlation) / 2.
    """
    if not -1 <= correlation <= 1:
        raise UserError(f"a correlation must lie in [-1, 1] (got {correlation})")
    category = category or dice.pick(CATEGORIES)
    if category not in CATEGORIES:
        raise UserError(f"there is no category '{category}'{did_you_mean(category, CATEGORIES)}")
    if sentiment is None:
        usual = dice.chance((1 + correlation) / 2)
        sentiment = "positive" if usual == (category in MOSTLY_LIKED) else "negative"
    bound: dict[str, Value] = base("past") | poles("sentiment", sentiment, "past")
    bound |= {"category": category, "aspect": PLAIN[f"aspect_{category}"]}
    bound["gender.relative"] = tuple(
        w for p in AXES["gender"] for w in poles("gender", p, "past")["gender.relative"]
    )
    opening = dice.pick(_GOT[category])
    if dice.chance(0.5):
        opening += " and {sentiment.verb} it"
    body = dice.sample(_BODY, 1 + dice.hits(2))
    sentences = (f"{opening}.", *body, dice.pick(_CLOSINGS))
    text = " ".join([fill(sentence, bound, dice) for sentence in sentences])
    return text, {"category": category, "sentiment": sentiment}


def templates() -> Iterator[str]:
    """All templates of this kind."""
    yield from _BODY
    yield from _CLOSINGS
    for openings in _GOT.values():
        yield from openings
