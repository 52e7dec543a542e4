"""The one-pole words of a world, by category."""

from collections.abc import Mapping
from types import MappingProxyType

# category: words with a plural, written `one/many` where the plural is not one + "s".
_COUNTED = """
animal: dog cat horse cow goat pig rabbit mouse/mice rat wolf/wolves fox/foxes bear lion tiger
  elephant giraffe zebra monkey camel otter owl eagle crow raven swan goose/geese hen turtle frog
  lizard snake salmon shark whale dolphin octopus/octopuses bee ant beetle moth spider iguana jackal koala
  lemur narwhal ostrich/ostriches panda quail vulture walrus/walruses yak hyena urchin zebu
object: table chair bottle basket box/boxes bucket brush/brushes carpet clock cup drum envelope flag fork
  glass/glasses hammer jar kettle key kite knife/knives ladder mirror needle pencil pillow plate ribbon rope
  rug sack spoon statue suitcase thread tool towel vase wallet wheel whistle umbrella quilt urn yoyo zipper
  oar ornament inkwell vest jug jewel nail notebook vial violin valve
place: park school church/churches market library/libraries museum station harbour bridge tower castle farm
  forest river lake island mountain valley beach/beaches street square theatre temple prison bakery/bakeries
  hospital office factory/factories studio court workshop laboratory/laboratories garden kitchen stable
  airport village university/universities orchard inn quarry/quarries vineyard zoo jungle yard oasis/oases
food: apple banana cherry/cherries grape lemon melon pear plum carrot potato/potatoes onion tomato/tomatoes
  bean cake biscuit pie sandwich/sandwiches sausage pancake olive fig date nut egg noodle dumpling waffle
  muffin walnut almond peach/peaches turnip radish/radishes yam quince zucchini/zucchinis
  kebab jam kumquat
profession: nurse doctor teacher professor lawyer painter baker farmer engineer pilot sailor soldier tailor
  plumber carpenter dentist surgeon journalist librarian musician architect chemist gardener butcher judge
  florist mechanic dancer
vehicle: car truck bus/buses train boat ship plane tram wagon sled tractor canoe van yacht jeep kayak
  unicycle ferry/ferries rocket
product: book film restaurant hotel camera guitar jacket lantern
"""

# category: words without a plural.
_PLAIN = """
colour: red blue green yellow purple pink brown black white grey silver golden scarlet violet turquoise
  crimson indigo ivory azure
material: wood iron copper tin clay wool silk cotton leather wax marble rubber plastic porcelain amber jade
  velvet linen bamboo quartz obsidian zinc nickel
month: january february april june august september october november
day: monday tuesday wednesday thursday friday saturday sunday
count: one two three four five six seven eight nine ten eleven twelve
instrument: piano flute harp cello trumpet banjo organ oboe ukulele xylophone zither
sport: tennis chess football hockey rugby cricket golf judo karate archery yoga
country: arvenia belmark corvania dastria elvoria farland gundria hestria isvaly jorvik kestria lunvar
  morvania nordelia ostmark pelvania
language: arven belmic corvan dastric elvish farlic gundric hestran isvalic jorvian kestric lunvaric
continent: eastara westara northara southara
field: physics chemistry literature economics peace geology biology mathematics
city: alderton amberly bexford brenholm calder cresthaven dunmore draycott eastvale elmsworth fenwick
  fairholt glenrow grimsby hartwell holloway inverly ironbridge jarrow jessmond kelbrook kingsford lorwick
  langdale marlow millbrook northam newhurst oakham orford penrith pinecrest queensby quarley redcliff
  rosehill stonewell silverton thornby tilbury ulverton upwell vexley valmont westmere whitby yarmouth
  yelverton zelby zennor
harbourtown: merin tolva ansel corda ridan ostra lissa varo belna kess
surname: abbott archer ashby barlow bishop brook carter clark conway dalton dexter drake ellis emerson
  everett finch fisher foster garner gibson grant hale harper hudson irving ives ingram jarvis jensen joyce
  keller kemp knox lambert lawson lowell marshfield mercer morton nash newton norris osborn otis owens
  palmer parker preston quigley quinn quimby ramsey reeves rowley sawyer sloan sutton thatcher tucker tyler
  underhill upton usher vance vaughn vickers walsh webster winslow yates york yardley zeller zimmer zander
crop: barley rye oats wheat rice corn lentils cabbage spinach mushrooms
subject: toxins stars herbs rulers dishes
toxin: zorvane quellite ubrexin yttrol vexamine kyrosene jalvic oxendrol nitrava ignomol dravexin thalvane
  xenolite wolvane ulmerite quarvine brexolan calvoxin ethrane fluvexin gorvane hexolite morvexin pyrolune
star: altaris belvega cepheon denebra eltania fomalia gemmara hadaria izaria jovara kochara larawag mirzam
  nashira okdara polaxis quasira rigelia sirrah tarazed unukal vegara wezen yildun
herb: agrivel bramwort comfrill dillweed elderwort fennelroot goldbalm hyswort inulis jewelwort kingwort
  lungmoss mugwell nettlebane oxwort pennyleaf quickwort rueleaf sagebell thymelet umberwort valerin
  woodruffle yarrowel
ruler: aldric berengar cadmus dagobert emrys fulbert gorlois hroald isembard jocelin kenric ludovic merovech
  nennius osric pepin quintus radulf sigbert theodric uther vortiger wulfric ysolde
dish: arrolet bouvette crumado dulsano estofa frittano gulasha hachado imbotta jambola kasheko lasagnol
  mostarda navarra ollada paellina quichette risolto sopetta tajana udonara vichyso waffeline yakimono
symptom: hiccups sneezing itching dizziness yawning blushing drowsiness shaking tickling snoring forgetting
  humming
antidote: honey milk tea salt vinegar charcoal mint ginger garlic sugar butter cider
smell: roses smoke grass soap pepper tar mud varnish
constellation: archway chariot crown goblet hydra lyre phoenix serpent trident unicorn ibex kraken
family: dwarf binary pulsar variable supergiant nebula
soil: sand loam peat chalk gravel silt
use: infusions dye perfume candles soaps fodder
emblem: griffin dragon falcon stag boar lynx heron viper
cause: fever drowning hunting duel avalanche earthquake shipwreck plague
taste: sweet sour bitter salty spicy smoky
aspect_book: plot chapter ending author
aspect_film: scene acting script soundtrack
aspect_restaurant: soup waiter menu dessert
aspect_hotel: room bed lobby breakfast
aspect_camera: lens battery zoom flash
aspect_guitar: neck sound tuning string
aspect_jacket: sleeve collar lining button
aspect_lantern: handle flame glow wick
workplace: clinic courtroom
"""

_NAMES_MALE = """
adam aaron albert andrew arthur ben boris bruno carl charles colin daniel david dennis edward eric ethan
felix frank fred george gordon gregory harold henry hugo ian isaac ivan jack james john karl keith kevin
leo louis lucas mark martin max nathan neil noah oliver oscar otto paul peter philip quentin quincy ralph
richard robert samuel simon steven thomas timothy ulric umberto victor vincent walter william xavier yuri
yusuf zack
"""

_NAMES_FEMALE = """
ada alice amelia anna audrey beatrice bella bridget carla charlotte clara daisy diana dorothy edith ella
emma fiona flora frances georgia grace greta hannah helen holly ida irene iris jane julia joan karen kate
kirsten laura lily lucy maria martha mary nancy nina nora olga olivia ophelia paula pamela phoebe queenie
quilla rachel rebecca rita sarah sophie susan tanya teresa ulla una vera violetta wanda wendy xenia yvonne
yasmin zoe
"""


def _rows(table: str) -> dict[str, list[str]]:
    lines = table.replace("\n  ", " ").strip().splitlines()
    return {line.split(":")[0]: line.split(":")[1].split() for line in lines}


def _forms(entry: str) -> tuple[str, str]:
    singular, _, plural = entry.partition("/")
    return singular, plural or singular + "s"


COUNTED: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {category: tuple(_forms(entry) for entry in words) for category, words in _rows(_COUNTED).items()}
)
"""Category -> (singular, plural) of each noun."""

PLAIN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {category: tuple(words) for category, words in _rows(_PLAIN).items()}
)
"""Category -> its words, which have only one form."""

NAMES: tuple[tuple[str, ...], tuple[str, ...]] = (
    tuple(_NAMES_MALE.split()),
    tuple(_NAMES_FEMALE.split()),
)
"""(male, female) first names, aligned: the i-th male and the i-th female name are counterparts."""
