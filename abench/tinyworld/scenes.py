"""Short scenes with a person or several things, described along the axes of the world."""

from collections.abc import Iterator
from math import log

from abench.tinyworld.axes import AXES
from abench.tinyworld.bindings import Value, base, poles
from abench.tinyworld.grammar import Dice, fill
from abench.tinyworld.words import NAMES

_OPENINGS = (
    "{tense.when} {name} {visits} the {place}.",
    "{tense.when} {name} {walks} to the {place}.",
    "{name} {is} at the {place} {tense.when}.",
    "{name} {lives} by the {place}.",
    "{tense.when}, {name} {meets} a {profession} at the {place}.",
    "a {gender.person} called {name} {waits} at the {place}.",
    "{name} {is} a {gender.noble}, and {his} {gender.relative} {is} a {gender.noble} too.",
    "{tense.when} {name} and {his} {gender.relative} {travels} by {vehicle}.",
)

_SENTENCES: dict[str, tuple[str, ...]] = {
    "gender": (
        "{his} {gender.relative} {talks} to {him}.",
        "{he} {sees} {his} {gender.relative} at the {place}.",
        "the {gender.person} {keeps} {his} {object} near {him}.",
        "{he} {is} the best {gender.person} for this.",
        "everyone {thinks} that {he} {is} a {gender.noble}.",
        "the {profession} {knows} {him} and {his} {gender.relative}.",
        "{he} {says} that the {object} {is} {his} own.",
    ),
    "sentiment": (
        "{he} {is} {sentiment.mood} and {sentiment.verb} the {food}.",
        "{sentiment.adv}, the {object} {is} {sentiment.adj}.",
        "{he} {feels} {sentiment.mood} about the {animal}.",
        "the day {is} a {sentiment.noun}, and {he} {sentiment.verb} it.",
        "{he} {eats} a {sentiment.adj} {food}.",
        "the {profession} {is} {sentiment.adj}, so {he} {is} {sentiment.mood}.",
    ),
    "number": (
        "the {animals#} {walks#} behind {him}.",
        "the {animals#} {is#} at the {place}, and {they#} {sleeps#} on {their#} {object}.",
        "{these#} {objects#} {is#} {colour}.",
        "{he} {sees} the {animals#}, and {they#} {eats#} the {food}.",
        "{these#} {vehicles#} {stops#} near the {place}.",
        "the {professions#} {carries#} {their#} {object}, and {they#} {sings#}.",
        "on the table {is#} the {foods#}, and {they#} {looks#} {taste}.",
    ),
    "size": (
        "the {animal} {is} {size.adj}.",
        "{he} {owns} a {size.adj} {object} and a {size.adj} {vehicle}.",
        "the {object} {is} so {size.adj} that only a {size.place} {fits} it.",
        "the {animal} {size.verb} until it {is} {size.adj}.",
        "it {fits} in a {size.place}, for it {is} {size.adj}.",
        "a {size.adj} {animal} {sleeps} in the {size.place}.",
    ),
    "temperature": (
        "the {place} {is} {temperature.adj}, so {he} {wears} a {temperature.thing}.",
        "in the {temperature.weather} {he} {temperature.verb}.",
        "{he} {drinks} a {temperature.adj} cup of {antidote}.",
        "the {food} {is} {temperature.adj}.",
        "{he} {needs} a {temperature.thing} in this {temperature.weather}.",
        "{he} {temperature.verb}, because the {place} {is} {temperature.adj}.",
    ),
    "tense": (
        "{tense.when} {he} {buys} a {object}.",
        "{he} {works} at the {place} {tense.when}.",
        "{he} {finds} the {object} and {brings} it to the {profession}.",
        "{tense.when} {he} {paints} the {object} {colour}.",
        "{he} {thinks} about the {animal} and {laughs}.",
        "the {profession} {has} a {vehicle} {tense.when}.",
    ),
    "formality": (
        "{he} {says}: {formality.hello}, {formality.fellow}.",
        "{he} {says} to a {formality.fellow}: {formality.yes}, we {formality.must} {formality.get} "
        "the {object}.",
        "a {formality.fellow} {asks} for the {formality.thing}, and {he} {says}: {formality.yes}.",
        "{he} {says}: {formality.thanks} for the {formality.thing}.",
        "{he} {says}: you {formality.must} {formality.get} it {formality.soon}.",
        "{he} {says}: {formality.bye}, {formality.fellow}.",
    ),
    "harm": (
        "{he} {harm.verb} the {animal} with the {harm.noun}.",
        "the {profession} {is} {harm.adj} and {harm.verb} the {animal}.",
        "a {harm.adj} {animal} {is} at the {place}.",
        "{he} {keeps} the {harm.noun} in a {object}.",
        "everyone {says} that the {harm.noun} {is} {harm.adj}.",
        "the {harm.adj} {profession} {harm.verb} {him}.",
    ),
    "age": (
        "the {animal} {is} {age.adj}, as {age.adj} as a {age.noun}.",
        "{he} {meets} a {age.adj} {profession} with a {age.toy}.",
        "the {age.noun} {needs} a {age.toy}.",
        "{he} {helps} the {age.noun}, who {is} {age.adj}.",
        "the {object} {is} for a {age.adj} {profession}.",
        "the {age.noun} {sits} by the {place}.",
    ),
    "speed": (
        "{he} {speed.verb} to the {place}.",
        "the {animal} {speed.verb} {speed.adv} over the {place}.",
        "the {vehicle} {is} {speed.adj}, so {he} {arrives} {speed.arrival}.",
        "{speed.adv} {he} {lifts} the {object}.",
        "the {profession} {works} {speed.adv}.",
        "it {is} a {speed.adj} {animal}, and it {speed.verb} past {him}.",
    ),
    "brightness": (
        "at {brightness.time} the {place} {is} {brightness.adj}.",
        "the {brightness.source} of the {object} {brightness.verb}.",
        "{he} {sits} in the {brightness.adj} room at {brightness.time}.",
        "the {brightness.source} {brightness.verb} over the {place}.",
        "the {colour} {object} {looks} {brightness.adj} at {brightness.time}.",
        "the {animal} {is} {brightness.adj} in the {brightness.source}.",
    ),
    "wealth": (
        "the {profession} {is} {wealth.adj} and {lives} in a {wealth.home}.",
        "the {wealth.noun} {wealth.verb} at the {place}.",
        "{he} {is} {wealth.adj}, because {his} family {has} {wealth.money}.",
        "a {wealth.noun} {thinks} of {wealth.money}.",
        "the {wealth.home} of the {wealth.noun} {is} by the {place}.",
        "the {wealth.adj} {profession} {wealth.verb}.",
    ),
    "distance": (
        "the {place} {is} {distance.adj}, a {distance.time} from {distance.adv}.",
        "{he} {travels} to a {distance.adj} {place}.",
        "the {animal} {lives} {distance.adv}.",
        "the way to the {distance.adj} {place} {needs} a {distance.time}.",
        "{he} {hears} a {distance.adj} {animal}.",
        "the {vehicle} {stops} {distance.adv}, at the {distance.adj} {place}.",
    ),
    "weight": (
        "the {object} {is} {weight.adj}, like a {weight.thing}.",
        "{he} {lifts} a {weight.adj} {object}.",
        "{he} {drops} the {weight.thing} on the {object}.",
        "the {vehicle} {is} {weight.adj}.",
        "a {weight.thing} {is} more {weight.adj} than a {food}.",
        "the {profession} {carries} a {weight.adj} {weight.thing}.",
    ),
    "loudness": (
        "{he} {loudness.verb} {loudness.adv}.",
        "the {place} {is} {loudness.adj}, and the {profession} {loudness.verb}.",
        "with a {loudness.noun} the {animal} {jumps}.",
        "{he} {hears} a {loudness.adj} {loudness.noun}.",
        "the {animal} {is} {loudness.adj} at the {place}.",
        "{he} {plays} the {instrument} {loudness.adv}.",
    ),
    "moisture": (
        "the {object} {is} {moisture.adj}.",
        "the {animal} {lives} in the {moisture.adj} {moisture.place}.",
        "in the {moisture.weather} the {place} {is} {moisture.adj}.",
        "the {moisture.weather} {begins}, and the {moisture.place} {is} {moisture.adj}.",
        "the {food} {moisture.verb}, for it {is} {moisture.adj}.",
        "{he} {walks} over a {moisture.place} in the {moisture.weather}.",
    ),
    "strength": (
        "the {animal} {is} {strength.adj}.",
        "the {object} of {strength.stuff} {strength.verb}.",
        "the {strength.adj} {profession} {strength.verb}.",
        "{he} {designs} a {vehicle} of {strength.stuff}.",
        "{he} {is} {strength.adj}, {strength.adj} as {strength.stuff}.",
        "the {place} {is} of {strength.stuff}, so it {is} {strength.adj}.",
    ),
}

_ALWAYS = ("tense", "gender", "number")
"""Axes of which every scene has a pole, at least for its grammar."""

_TOPICS = tuple(_SENTENCES)


def scene(dice: Dice, *, about: str | None = None, **poles_wanted: str | None) -> tuple[str, dict[str, str]]:
    """A scene of three to five sentences and its poles.

    `about` names an axis that at least one sentence is about. `poles_wanted` gives axes their poles by name;
    a pole is visible if a sentence is about its axis (tense and gender are always visible). Scenes from the
    same random stream that differ in one wanted pole differ only in words of that axis.
    """
    fixed = {axis: pole for axis, pole in poles_wanted.items() if pole is not None}
    chosen = {axis: fixed[axis] if axis in fixed else dice.pick(AXES[axis]) for axis in _ALWAYS}
    topics = dice.sample(_TOPICS, 2)
    if about is not None and about not in topics:
        topics[0] = about
    if "number" not in (*topics, *fixed):
        # The text does not show this pole then, so it is not part of the text's surprisal.
        dice.nats -= log(len(AXES["number"]))
    for axis in topics:
        if axis not in chosen:
            chosen[axis] = fixed[axis] if axis in fixed else dice.pick(AXES[axis])
    bound = _bindings(chosen)
    bound["name"] = dice.pick(NAMES[AXES["gender"].index(chosen["gender"])])
    sentences = [dice.pick(_OPENINGS)]
    for axis in topics:
        sentences += dice.sample(_SENTENCES[axis], 1 + dice.chance(0.5))
    attributes = chosen | {"topics": " ".join(topics), "name": str(bound["name"])}
    return " ".join([fill(sentence, bound, dice) for sentence in sentences]), attributes


def _bindings(chosen: dict[str, str]) -> dict[str, Value]:
    tense, number = chosen["tense"], chosen["number"]
    bound = base(tense, number).copy()
    for axis, pole in chosen.items():
        bound.update(poles(axis, pole, tense, number))
    return bound


def templates() -> Iterator[str]:
    """All templates of this kind."""
    yield from _OPENINGS
    for sentences in _SENTENCES.values():
        yield from sentences
