"""The two-pole axes, each with word classes that have two aligned lists.

The i-th word of a class's negative list is the counterpart of the i-th word of its positive list. A text from
the same random stream with the other pole therefore differs in exactly these words.
"""

from collections.abc import Mapping
from types import MappingProxyType

AXES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "gender": ("male", "female"),
        "sentiment": ("negative", "positive"),
        "number": ("singular", "plural"),
        "size": ("small", "large"),
        "temperature": ("cold", "hot"),
        "tense": ("past", "present"),
        "formality": ("informal", "formal"),
        "harm": ("harmless", "harmful"),
        "age": ("young", "old"),
        "speed": ("slow", "fast"),
        "brightness": ("dark", "bright"),
        "wealth": ("poor", "rich"),
        "distance": ("near", "far"),
        "weight": ("light", "heavy"),
        "loudness": ("quiet", "loud"),
        "moisture": ("dry", "wet"),
        "strength": ("weak", "strong"),
    }
)
"""Every axis with the names of its negative and its positive pole."""

_PAIRS = """
gender.he: he | she
gender.him: him | her
gender.his: his | her
gender.person: man boy gentleman lad | woman girl lady lass
gender.relative: father brother son uncle husband grandfather nephew
  | mother sister daughter aunt wife grandmother niece
gender.noble: king prince duke wizard baron | queen princess duchess witch baroness
sentiment.adj: terrible awful horrible dreadful disappointing unpleasant annoying useless
  | excellent wonderful lovely delightful impressive pleasant charming superb
sentiment.adv: sadly unfortunately regrettably | happily fortunately thankfully
sentiment.mood: sad upset angry gloomy | glad cheerful pleased joyful
sentiment.noun: disaster mess failure nightmare | triumph joy success delight
sentiment.advice: avoid skip | recommend choose
size.adj: small tiny little miniature minuscule | large huge big giant enormous
size.place: pocket thimble matchbox | hall warehouse stadium
temperature.adj: cold icy frozen chilly freezing | hot warm boiling burning scorching
temperature.thing: coat scarf blanket | hat parasol swimsuit
temperature.weather: winter snow frost | summer sunshine heat
formality.hello: hi hey hiya | greetings salutations welcome
formality.must: gotta gonna wanna | must shall should
formality.get: get grab fix | obtain acquire amend
formality.thing: stuff cash bike pic phone | belongings funds bicycle photograph telephone
formality.yes: yeah ok yep | indeed certainly assuredly
formality.thanks: thanks cheers ta | gratitude appreciation acknowledgement
formality.bye: bye later ciao | sincerely respectfully faithfully
formality.fellow: buddy mate pal | colleague associate partner
formality.soon: asap pronto | promptly immediately
harm.base: heal feed guard rescue repair comfort protect warn bandage vaccinate
  | poison starve rob kidnap wreck threaten attack blackmail stab infect
harm.adj: safe gentle caring peaceful | dangerous cruel vicious violent
harm.noun: medicine ointment shield | venom explosive dagger
age.adj: young youthful adolescent newborn | old elderly aged ancient
age.noun: toddler teenager pupil | pensioner veteran elder
age.toy: rattle crayon cradle | wheelchair pension walker
speed.adj: slow sluggish leisurely unhurried | fast quick rapid swift
speed.adv: slowly gradually lazily calmly | quickly rapidly hastily briskly
speed.arrival: late | early
brightness.adj: dark dim shadowy murky | bright shiny glowing radiant
brightness.time: midnight dusk nightfall | noon dawn daybreak
brightness.source: shadow gloom darkness | lamp candle daylight
wealth.adj: poor penniless needy bankrupt | rich wealthy affluent prosperous
wealth.home: hut shack hovel | mansion palace villa
wealth.noun: beggar pauper debtor | millionaire banker tycoon
wealth.money: debt poverty hunger | fortune treasure luxury
distance.adj: near nearby adjacent neighbouring | far distant remote faraway
distance.adv: here close | there away
distance.time: minute moment | month year
weight.adj: light feathery weightless airy | heavy leaden massive weighty
weight.thing: feather petal leaf | anvil boulder anchor
loudness.adj: quiet silent hushed muffled | loud noisy deafening thunderous
loudness.adv: quietly softly silently | loudly noisily shrilly
loudness.noun: hush hum sigh | roar scream din
moisture.adj: dry dusty arid parched | wet soaked damp soggy
moisture.place: desert dune | swamp marsh
moisture.weather: drought | rain
strength.adj: weak feeble frail fragile | strong mighty sturdy robust
strength.stuff: straw paper foam | steel granite concrete
tense.when: yesterday earlier previously | today now nowadays
"""

# Third person singular, plural, past; the verbs of the two poles are aligned.
_VERBS = """
sentiment: hates hate hated, dislikes dislike disliked, resents resent resented, regrets regret regretted
  | loves love loved, enjoys enjoy enjoyed, adores adore adored, praises praise praised
size: shrinks shrink shrank, dwindles dwindle dwindled | grows grow grew, swells swell swelled
temperature: shivers shiver shivered, freezes freeze froze | sweats sweat sweated, melts melt melted
harm: heals - healed, feeds - fed, guards - guarded, rescues - rescued, repairs - repaired
  , comforts - comforted, protects - protected, warns - warned, bandages - bandaged, vaccinates - vaccinated
  | poisons - poisoned, starves - starved, robs - robbed, kidnaps - kidnapped, wrecks - wrecked
  , threatens - threatened, attacks - attacked, blackmails - blackmailed, stabs - stabbed, infects - infected
speed: crawls crawl crawled, creeps creep crept, dawdles dawdle dawdled, strolls stroll strolled
  | races race raced, dashes dash dashed, rushes rush rushed, sprints sprint sprinted
brightness: fades fade faded, darkens darken darkened | shines shine shone, sparkles sparkle sparkled
wealth: begs beg begged, borrows borrow borrowed | invests invest invested, donates donate donated
loudness: whispers whisper whispered, murmurs murmur murmured, mumbles mumble mumbled
  | shouts shout shouted, yells yell yelled, bellows bellow bellowed
moisture: withers wither withered, cracks crack cracked | drips drip dripped, leaks leak leaked
strength: trembles tremble trembled, collapses collapse collapsed
  | endures endure endured, resists resist resisted
plain: sees see saw, finds find found, buys buy bought, sells sell sold, carries carry carried
  , holds hold held, paints paint painted, cleans clean cleaned, hides hide hid, draws draw drew
  , keeps keep kept, brings bring brought, washes wash washed, remembers remember remembered
  , forgets forget forgot, notices notice noticed, admires admire admired, collects collect collected
  , wears wear wore, follows follow followed, meets meet met, visits visit visited, enters enter entered
  , studies study studied, teaches teach taught, writes write wrote, sings sing sang, cooks cook cooked
  , eats eat ate, drinks drink drank, sleeps sleep slept, waits wait waited, sits sit sat
  , stands stand stood, smiles smile smiled, laughs laugh laughed, dances dance danced, plays play played
  , lives live lived, stays stay stayed, looks look looked, walks walk walked, travels travel travelled
  , arrives arrive arrived, returns return returned, goes go went, talks talk talked, says say said
  , asks ask asked, hears hear heard, fits fit fitted, helps help helped, begins begin began
  , stops stop stopped, lifts lift lifted, drops drop dropped, throws throw threw, climbs climb climbed
  , swims swim swam, owns own owned, pays pay paid, saves save saved, measures measure measured
  , designs design designed, treats treat treated, serves serve served, describes describe described
  , explains explain explained, owes owe owed, jumps jump jumped, rests rest rested, runs run ran
  , wants want wanted, needs need needed, becomes become became, thinks think thought, has have had
  , does do did, knows know knew, feels feel felt, works work worked, grills grill grilled
"""

Verb = tuple[str, str, str]


def _rows(table: str) -> dict[str, tuple[str, str]]:
    """`name: negative | positive` lines, continued by lines that begin with two spaces."""
    rows = {}
    for line in table.replace("\n  ", " ").strip().splitlines():
        name, words = line.split(":")
        negative, _, positive = words.partition("|")
        rows[name] = (negative, positive)
    return rows


def _verbs(side: str) -> tuple[Verb, ...]:
    forms = (verb.split() for verb in side.split(",") if verb.strip())
    return tuple((singular, plural, past) for singular, plural, past in forms)


PAIRS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        name: (tuple(negative.split()), tuple(positive.split()))
        for name, (negative, positive) in _rows(_PAIRS).items()
    }
)
"""Word classes `axis.class` -> (negative words, positive words), aligned."""

VERBS: Mapping[str, tuple[tuple[Verb, ...], tuple[Verb, ...]]] = MappingProxyType(
    {axis: (_verbs(negative), _verbs(positive)) for axis, (negative, positive) in _rows(_VERBS).items()}
)
"""Axis (or `plain`) -> (verbs of the negative pole, verbs of the positive pole), each in three forms.

A dash marks a form that the world does not use: the plain form of the harm verbs occurs only in requests,
where it is an infinitive and does not indicate number or tense.
"""
