"""Cities and people with attributes, for tasks about where a model represents each attribute."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from abench.tinyworld.axes import AXES
from abench.tinyworld.grammar import Dice, fill
from abench.tinyworld.words import NAMES, PLAIN

_SPEAKS = 0.7
"""Share of a country's cities that speak the language named after it."""


@dataclass(frozen=True)
class Entity:
    """A city (`country`, `continent`, `language`) or a person (`country`, `field`, `gender`)."""

    kind: str
    name: str
    attributes: Mapping[str, str]

    def answer(self, attribute: str) -> str:
        """The word that follows a prompt about the attribute; for gender, `him` or `her`."""
        value = self.attributes[attribute]
        return {"male": "him", "female": "her"}[value] if attribute == "gender" else value


TEMPLATES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "city": {
            "country": (
                "{entity} is a city in the country of",
                "the city of {entity} lies in",
                "{entity} belongs to",
                "people in {entity} vote in the elections of",
            ),
            "continent": (
                "{entity} is on the continent of",
                "the city of {entity} is part of",
                "on the map, {entity} is in",
                "the land around {entity} is called",
            ),
            "language": (
                "people in {entity} speak",
                "the language of {entity} is",
                "the street signs of {entity} are in",
                "newspapers from {entity} are printed in",
            ),
        },
        "person": {
            "country": (
                "{entity} was born in",
                "{entity} grew up in the country of",
                "the home of {entity} is",
                "the passport of {entity} is from",
            ),
            "field": (
                "{entity} won the prize in",
                "{entity} is famous for work in",
                "the field of {entity} is",
                "the lectures of {entity} are about",
            ),
            "gender": (
                "the reporters met {entity} and photographed",
                "the prize was given to {entity}, and the king thanked",
                "after the speech of {entity} everyone thanked",
                "the students of {entity} admire",
            ),
        },
    }
)
"""Kind -> attribute -> prompts, with `{entity}` for the name; `Entity.answer` completes them."""

_STARTS = (
    "{statement}.",
    "as we know, {statement}.",
    "in the news: {statement}.",
    "it is said that {statement}.",
)


def cities(seed: int) -> tuple[Entity, ...]:
    """The world's cities, with names of one or two words."""
    random = Random(f"tinyworld cities {seed}")
    countries = PLAIN["country"]
    home = {country: random.choice(PLAIN["continent"]) for country in countries}
    names = [*PLAIN["city"], *(f"{w} {n}" for n in PLAIN["harbourtown"] for w in ("port", "new", "fort"))]
    made = []
    for i, name in enumerate(sorted(names, key=lambda _: random.random())):
        country = countries[i % len(countries)]
        own = PLAIN["language"][(i % len(countries)) % len(PLAIN["language"])]
        language = own if random.random() < _SPEAKS else random.choice(PLAIN["language"])
        attributes = {"country": country, "continent": home[country], "language": language}
        made.append(Entity("city", name, MappingProxyType(attributes)))
    return tuple(made)


def people(seed: int) -> tuple[Entity, ...]:
    """The world's prize winners, named by first name and surname, or by a unique surname alone."""
    random = Random(f"tinyworld people {seed}")
    surnames = sorted(PLAIN["surname"], key=lambda _: random.random())
    made = []
    for i, surname in enumerate(surnames):
        gender = AXES["gender"][i % 2]
        first = random.choice(NAMES[i % 2])
        attributes = {
            "country": random.choice(PLAIN["country"]),
            "field": random.choice(PLAIN["field"]),
            "gender": gender,
        }
        name = surname if i % 4 >= 2 else f"{first} {surname}"
        made.append(Entity("person", name, MappingProxyType(attributes)))
    return tuple(made)


def profile(
    dice: Dice, entities: tuple[Entity, ...], *, entity: Entity | None = None
) -> tuple[str, dict[str, str]]:
    """Two or three statements, all about one entity or each about a random one."""
    one = entity or (dice.pick(entities) if dice.chance(0.6) else None)
    kind = entities[0].kind
    attributes = [dice.pick(_ATTRIBUTES[kind]) for _ in range(2 + dice.chance(0.5))]
    sentences = []
    for attribute in attributes:
        subject = one or dice.pick(entities)
        prompt = dice.pick(TEMPLATES[kind][attribute])
        statement = f"{fill(prompt, {'entity': subject.name}, dice)} {subject.answer(attribute)}"
        sentences.append(fill(dice.pick(_STARTS), {"statement": statement}, dice))
    return " ".join(sentences), {"entity": one.name} | dict(one.attributes) if one else {}


_ATTRIBUTES = {kind: tuple(by_attribute) for kind, by_attribute in TEMPLATES.items()}


def templates() -> Iterator[str]:
    """All templates of this kind."""
    yield from _STARTS
    yield "port new fort"
    for by_attribute in TEMPLATES.values():
        for prompts in by_attribute.values():
            yield from prompts
