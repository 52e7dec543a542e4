"""Assignment of free texts to splits by a hash."""

from collections.abc import Mapping
from types import MappingProxyType
from zlib import crc32

SHARES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"train": (0, 70), "validation": (70, 85), "test": (85, 100)}
)
"""Split -> its range of percentiles of the hash."""

SPLITS: tuple[str, ...] = tuple(SHARES)
"""The names of the splits."""


def in_split(text: str, split: str) -> bool:
    """Whether a free text belongs to a split; every text belongs to exactly one."""
    low, high = SHARES[split]
    return low <= crc32(text.encode()) % 100 < high
