"""The data sets of the package sae-probes, which sae-bench installs: files of texts on this machine.

Kantamneni et al., "Are Sparse Autoencoders Useful? A Case Study in Sparse Probing" (arXiv:2502.16681). Each
file is a CSV with the columns `prompt` and `target`, compressed with Zstandard.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from abench import UserError

PREFIX = "sae-probes/"
"""What the names of these data sets begin with: `sae-probes/5_hist_fig_ismale`."""
_ENDING = ".csv.zst"


@cache
def _folder() -> Path | None:
    """The package's folder of data sets, found without importing the package; None if there is none."""
    spec = find_spec("sae_probes")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "data" / "cleaned_data"
    return folder if folder.is_dir() else None


@cache
def names() -> tuple[str, ...]:
    """The data sets, in the order of their numbers."""
    folder = _folder()
    stems = [] if folder is None else [file.name.removesuffix(_ENDING) for file in folder.glob(f"*{_ENDING}")]
    return tuple(PREFIX + stem for stem in sorted(stems, key=_number))


def _number(stem: str) -> tuple[int, str]:
    digits = stem.partition("_")[0]
    return (int(digits) if digits.isdecimal() else 0), stem


def file_of(name: str) -> Path | None:
    """The file of a data set; None for a name that is none of them."""
    folder = _folder()
    if folder is None or not name.startswith(PREFIX) or name not in names():
        return None
    return folder / f"{name.removeprefix(PREFIX)}{_ENDING}"


def rows(name: str) -> Iterator[Mapping[str, str]]:
    """The rows of a data set; raises UserError for an unknown name."""
    path = file_of(name)
    if path is None:
        known = ", ".join(names()[:3])
        raise UserError(f"there is no data set '{name}'; the package sae-probes has {known}, …")
    import zstandard

    with zstandard.open(path, "rt", encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)
