"""Short biographies: profession × gender, with a given correlation."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from abench.errors import UserError, did_you_mean
from abench.tinyworld.axes import AXES
from abench.tinyworld.bindings import Value, base, poles
from abench.tinyworld.grammar import Dice, fill
from abench.tinyworld.words import NAMES, PLAIN

# profession: phrases for its activities, in the forms of the bindings.
_WORK = """
nurse: {helps} tired people at the hospital, {washes} the sick, {brings} tea to the ward
doctor: {treats} fever at the clinic, {studies} blood, {measures} the fever of every patient
teacher: {teaches} mathematics at the school, {explains} words to pupils, {writes} on the board
professor: {teaches} at the university, {writes} long papers, {explains} physics to students
lawyer: {talks} in the courtroom, {studies} the law, {writes} contracts
painter: {paints} walls and doors, {works} with red and blue, {draws} faces in the studio
baker: {cooks} bread before sunrise, {sells} cakes and pies, {works} with flour and sugar
farmer: {keeps} cows and pigs, {sells} barley and oats, {works} on the farm
engineer: {designs} bridges, {measures} machines, {studies} plans in the factory
pilot: {travels} above the clouds, {knows} every airport, {works} in a plane
sailor: {travels} over the sea, {knows} every harbour, {cleans} the deck
soldier: {stands} at the castle gate, {carries} a sword, {follows} orders
tailor: {measures} sleeves, {works} with wool and silk, {keeps} needles and thread
plumber: {cleans} pipes, {works} under the sink, {finds} holes in pipes
carpenter: {works} with wood and nails, {designs} chairs and tables, {holds} a hammer all day
dentist: {cleans} teeth, {looks} into mouths, {sells} brushes
surgeon: {holds} a knife at the hospital, {works} on hearts, {washes} both hands for long
journalist: {writes} for the newspaper, {asks} many questions, {follows} the news
librarian: {keeps} books in the library, {knows} every shelf, {finds} books for people
musician: {plays} the piano and the harp, {sings} in the theatre, {writes} songs
architect: {draws} towers and museums, {designs} houses, {studies} plans of towers
chemist: {works} in the laboratory, {measures} acids, {studies} salt and copper
gardener: {keeps} roses in the garden, {works} among flowers, {keeps} the grass short
butcher: {sells} meat and sausages, {holds} a knife in the shop, {works} behind the counter of meat
judge: {sits} in the courtroom, {knows} the law, {hears} every witness
florist: {sells} roses and tulips, {brings} flowers to weddings, {works} with ribbons and flowers
mechanic: {works} under cars and trucks, {cleans} engines, {knows} every wheel
dancer: {dances} in the theatre, {jumps} high on the stage, {walks} on the toes
"""

MOSTLY_MALE = frozenset(
    {"pilot", "engineer", "plumber", "carpenter", "soldier", "sailor", "surgeon", "farmer", "butcher"}
    | {"mechanic", "chemist", "judge", "professor", "architect"}
)
"""The professions that a positive correlation assigns to men; the other half is assigned to women."""

_OPENINGS = (
    "{name} {is} a {profession}.",
    "{name} {works} as a {profession}.",
    "{name} {surname} {is} a {profession} in {city}.",
    "this {is} {name} {surname}, a {profession} from {city}.",
    "{name}, a {profession}, {lives} in {city}.",
    "a {profession} called {name} {lives} by the {place}.",
)
_LIFE = (
    "{he} {lives} in {city}.",
    "{he} {studies} in {city}.",
    "in the evening {he} {plays} the {instrument}.",
    "on {day} {he} {plays} {sport}.",
    "{his} {gender.relative} {lives} in {city}.",
    "{he} {has} a {animal}, and people talk of {him} for it.",
    "{his} house {is} {colour}.",
    "{his} {gender.relative} {visits} {him} in {month}.",
    "{he} {collects} {objects}.",
    "{he} {eats} {foods} with {his} {gender.relative}.",
    "people call {him} a good {gender.person}.",
)

_CORRELATION = 0.5
"""Default correlation of gender and profession: 75 % of nurses are women."""


def _work() -> dict[str, tuple[str, ...]]:
    lines = (line.split(": ") for line in _WORK.strip().splitlines())
    return {profession: tuple(work.split(", ")) for profession, work in lines}


WORK: Mapping[str, tuple[str, ...]] = MappingProxyType(_work())
"""Profession -> phrases for its activities."""


def biography(
    dice: Dice,
    *,
    profession: str | None = None,
    gender: str | None = None,
    correlation: float = _CORRELATION,
    tense: str | None = None,
) -> tuple[str, dict[str, str]]:
    """A biography of three to five sentences, and its profession, gender, tense and name.

    `correlation` is in [−1, 1]: P(the usual gender of the profession) = (1 + correlation) / 2.
    """
    if not -1 <= correlation <= 1:
        raise UserError(f"a correlation must lie in [-1, 1] (got {correlation})")
    profession = profession or dice.pick(tuple(WORK))
    if profession not in WORK:
        raise UserError(f"there is no profession '{profession}'{did_you_mean(profession, WORK)}")
    if gender is None:
        usual = dice.chance((1 + correlation) / 2)
        gender = "male" if usual == (profession in MOSTLY_MALE) else "female"
    tense = tense or dice.pick(AXES["tense"])
    bound: dict[str, Value] = base(tense) | poles("gender", gender, tense)
    bound |= {"name": dice.pick(NAMES[AXES["gender"].index(gender)]), "profession": profession}
    bound["city"], bound["surname"] = PLAIN["city"], PLAIN["surname"]
    work = [f"{{he}} {phrase}." for phrase in dice.sample(WORK[profession], 1 + dice.chance(0.5))]
    life = dice.sample(_LIFE, 1 + dice.chance(0.5))
    body = [*work, *life] if dice.chance(0.6) else [*life, *work]
    text = " ".join([fill(sentence, bound, dice) for sentence in (dice.pick(_OPENINGS), *body)])
    return text, {"profession": profession, "gender": gender, "tense": tense, "name": str(bound["name"])}


def templates() -> Iterator[str]:
    """Every template of this kind."""
    yield from _OPENINGS
    yield from _LIFE
    for phrases in WORK.values():
        yield from phrases
