"""The look of each variant: one title, colour and marker in all figures and tables."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from abench.settings import number_in, settings_of, settings_text, variant_name


@dataclass(frozen=True)
class VariantStyle:
    """A variant's name in tables and its look in figures."""

    title: str
    colour: str
    """`#rrggbb`."""
    marker: str
    """A matplotlib marker."""


Styles = Mapping[str, VariantStyle]
"""Variant name -> style, for variants whose default look is overridden."""

NO_STYLES: Styles = MappingProxyType({})

# The colours of Okabe and Ito, extended by those that are furthest from all others under common forms of
# colour blindness. The order is that of rows and legends: each operator next to its signed counterpart.
VARIANTS: Styles = MappingProxyType(
    {
        "abstopk": VariantStyle("AbsTopK", "#D55E00", "o"),
        "topk": VariantStyle("TopK", "#0072B2", "s"),
        "absjumprelu": VariantStyle("AbsJumpReLU", "#DDCC77", "<"),
        "jumprelu": VariantStyle("JumpReLU", "#009E73", "^"),
        "batchabstopk": VariantStyle("Batch AbsTopK", "#E69F00", "D"),
        "batchtopk": VariantStyle("BatchTopK", "#56B4E9", "v"),
        "absmatryoshka": VariantStyle("AbsMatryoshka", "#8A6D3B", "h"),
        "matryoshka": VariantStyle("Matryoshka", "#332288", "p"),
        "multistep": VariantStyle("Multi-step AbsTopK", "#661100", "*"),
        "signedtopk": VariantStyle("Signed TopK", "#000000", "d"),
        "gated": VariantStyle("Gated", "#CC79A7", "P"),
        "relu": VariantStyle("ReLU", "#555555", "X"),
    }
)

HATCHES = {"native": "", "split": "////"}
"""View -> hatch pattern of its bars."""

_GOLDEN = 0.618034
_OTHER_MARKERS = ("<", ">", "p", "h", "*", "8", "d", "H")

LINE_STYLES = ("solid", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.2)))
"""Line styles of the values of k, largest first."""


def variant_style(name: str, styles: Styles = NO_STYLES) -> VariantStyle:
    """The style of a variant: from `styles`, else the built-in one, else one derived from its name alone.

    A variant with settings (`ridgetopk[ridge=0.1]`) has a colour of its own, the variant's marker, and the
    settings in its title.
    """
    if name in styles:
        return styles[name]
    if settings := settings_text(name):
        own = variant_style(variant_name(name), styles)
        return replace(_derived(name), title=f"{own.title} [{settings}]", marker=own.marker)
    return VARIANTS.get(_plain(name)) or _derived(name)


def row_title(name: str, styles: Styles = NO_STYLES) -> str:
    """The title of a variant in tables, which show its settings in a column of their own."""
    return variant_style(variant_name(name), styles).title


def titled(titles: Mapping[str, str]) -> Styles:
    """The styles of variants with these titles (by name); variants that come with abench keep theirs."""
    # By the exact name: a variant `top-k` of somebody else's must not look like `topk`.
    own = {name: title for name, title in titles.items() if name not in VARIANTS}
    return {name: replace(_derived(name), title=title) for name, title in own.items()}


def apart(names: Sequence[str]) -> Styles:
    """Styles of SAEs that have names of their own, in colours and markers that differ from each other.

    In contrast to a variant, such an SAE has no look that must stay the same in other reports. Consecutive
    hues differ by the golden ratio of the circle, which keeps any number of them apart.
    """
    return {
        name: VariantStyle(
            name, _colour((number * _GOLDEN) % 1, 0.4), _OTHER_MARKERS[number % len(_OTHER_MARKERS)]
        )
        for number, name in enumerate(names)
    }


def variant_order(names: Iterable[str]) -> list[str]:
    """The names without duplicates: built-in variants in their fixed order, then the others by name.

    Settings of one variant are ordered by their values.
    """
    known = list(VARIANTS)

    def rank(name: str) -> tuple[int, str, list[tuple[str, float, str]]]:
        plain, own = _plain(variant_name(name)), settings_of(name)
        settings = [(key, number_in(value), value) for key, value in own.items()]
        return (known.index(plain) if plain in known else len(known), variant_name(name), settings)

    return sorted(set(names), key=rank)


def lighten(colour: str, share: float) -> str:
    """The colour mixed with a share of white: 0 leaves it unchanged, 1 gives white."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _derived(name: str) -> VariantStyle:
    """A style with hue and marker from a hash of the name, independent of the other variants in a report."""
    digest = hashlib.sha256(name.encode()).digest()
    colour = _colour(int.from_bytes(digest[:2]) / 65536, 0.42)
    return VariantStyle(name, colour, _OTHER_MARKERS[digest[2] % len(_OTHER_MARKERS)])


def _colour(hue: float, lightness: float) -> str:
    """`#rrggbb` of a hue from 0 to 1."""
    import colorsys

    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.6)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
