"""Slot bindings: the words available to every template, in the forms required by tense, number and poles."""

from functools import cache

from abench.tinyworld.axes import AXES, PAIRS, VERBS, Verb
from abench.tinyworld.words import COUNTED, PLAIN

Value = str | tuple[str, ...]

_BE = {"past": ("was", "were"), "present": ("is", "are")}


@cache
def base(tense: str, number: str = "singular") -> dict[str, Value]:
    """Bindings that depend only on tense and number. Copy the result before changing it.

    `{walks}` is the verb's form for a singular subject; `{walks#}`, `{animals#}`, `{they#}` agree with
    `number`. The name of a category (`{animal}`, `{colour}`) draws one of its words.
    """
    plural = number == "plural"
    bound: dict[str, Value] = dict(PLAIN)
    for category, nouns in COUNTED.items():
        bound[category] = tuple(singular for singular, _ in nouns)
        bound[f"{category}s"] = tuple(many for _, many in nouns)
        bound[f"{category}s#"] = tuple(noun[plural] for noun in nouns)
    for verb in VERBS["plain"][0]:
        bound[verb[0]] = _form(verb, tense, plural=False)
        bound[f"{verb[0]}#"] = _form(verb, tense, plural)
    one, many = _BE[tense]
    bound |= {"is": one, "is#": many if plural else one, "tense.when": _pole_words("tense.when", tense)}
    bound["they#"], bound["their#"], bound["these#"] = (
        ("they", "their", "these") if plural else ("it", "its", "this")
    )
    return bound


@cache
def poles(axis: str, pole: str, tense: str, number: str = "singular") -> dict[str, Value]:
    """The word classes of an axis at one pole: `{size.adj}`, `{speed.verb}`, `{speed.verb#}`."""
    bound: dict[str, Value] = {
        name: _pole_words(name, pole) for name in PAIRS if name.split(".")[0] == axis and axis != "tense"
    }
    if axis in VERBS:
        verbs = VERBS[axis][AXES[axis].index(pole)]
        bound[f"{axis}.verb"] = tuple(_form(verb, tense, plural=False) for verb in verbs)
        bound[f"{axis}.verb#"] = tuple(_form(verb, tense, number == "plural") for verb in verbs)
    if axis == "gender":
        for pronoun in ("he", "him", "his"):
            bound[pronoun] = _pole_words(f"gender.{pronoun}", pole)[0]
    return bound


def _pole_words(name: str, pole: str) -> tuple[str, ...]:
    return PAIRS[name][AXES[name.split(".")[0]].index(pole)]


def _form(verb: Verb, tense: str, plural: bool) -> str:
    singular, many, past = verb
    if tense == "past":
        return past
    return many if plural else singular
