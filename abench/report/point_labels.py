"""Places for short texts next to points, such that texts cover neither each other nor other points."""

from collections.abc import Sequence
from itertools import product
from math import hypot

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in typographic points."""

_LETTER, _LINE = 0.6, 1.1
"""Width and height of a letter, as multiples of the font's size."""
_MARKER = 3.0
"""Half the width of a point's marker."""
_RINGS = (6.0, 12.0, 19.0, 27.0)
"""Distances between a point and the nearest side of its text that are tried."""
_SIDES = tuple((right, up) for right, up in product((0, 1, -1), repeat=2) if right or up)


def offsets(points: Sequence[tuple[float, float]], texts: Sequence[str], size: float, room: Box) -> list[Box]:
    """A box for the text of each point, in typographic points; `size` is the font's size.

    Texts are placed one after the other at the nearest free place; where none is free, at the place that
    covers least. Boxes stay within `room` as far as possible.
    """
    taken = [(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER) for x, y in points]
    found = []
    for (x, y), text in zip(points, texts, strict=True):
        boxes = [_box(x, y, text, size, ring, side) for ring in _RINGS for side in _SIDES]
        best = min(boxes, key=lambda box: (_cost(box, taken, room), _distance(box, x, y)))
        taken.append(best)
        found.append(best)
    return found


def _box(x: float, y: float, text: str, size: float, ring: float, side: tuple[int, int]) -> Box:
    width, height = _LETTER * size * len(text), _LINE * size
    right, up = side
    middle_x = x + right * (ring + width / 2)
    middle_y = y + up * (ring + height / 2)
    return middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2


def _cost(box: Box, taken: Sequence[Box], room: Box) -> float:
    """How much of other boxes a box covers, and how much of it is outside of the room."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return area - _overlap(box, room) + sum(_overlap(box, other) for other in taken)


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _distance(box: Box, x: float, y: float) -> float:
    return hypot((box[0] + box[2]) / 2 - x, (box[1] + box[3]) / 2 - y)
