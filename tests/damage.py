"""The ways in which a file of a results folder can be damaged."""

import shutil
from collections.abc import Callable
from pathlib import Path
from zlib import crc32


def flip_a_bit(file: Path) -> None:
    """Change one bit, at a place that depends on the name and is often in the last third."""
    content = bytearray(file.read_bytes())
    chosen = crc32(str(file.name).encode())
    place = len(content) - 1 - chosen % max(1, len(content) // 3)
    content[place] ^= 1 << (chosen % 8)
    file.write_bytes(content)


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def lose(file: Path) -> None:
    file.unlink()


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    shutil.copy(__file__, file)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a bit flipped": flip_a_bit,
    "truncated": truncate,
    "empty": empty,
    "gone": lose,
    "a folder": replace_by_folder,
}
