"""Figures as files: PNG, PDF and their data; unchanged figures are copied from the previous report.

Drawing takes most of the time of a small report and a quarter of the time of a large one. A figure depends on
the values it shows and on the code that draws it, so a hash of both (`Manifest.figures`) shows whether the
report to be replaced contains the same figure. Its files are copied only if they match the checksums in the
report's manifest: a figure that was changed, damaged or removed is drawn again.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.identity import module_digest
from abench.report.csvfile import write_frame
from abench.report.manifest import Manifest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_LOOK: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    # The font that ships with matplotlib, never one of the machine's fonts.
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.0,
    "pdf.fonttype": 42,
}
DPI = 160
"""Pixels per inch of PNG files."""
_ENDINGS = (".png", ".pdf")
_DRAWN_BY = ("matplotlib", "numpy", "pandas", "pillow", "fonttools", "kiwisolver", "contourpy")
"""Packages that a drawing may depend on."""


@dataclass(frozen=True)
class Drawings:
    """The figures of a report that is being written to `folder`."""

    folder: Path
    earlier: Path
    """The folder of the report to be replaced."""
    old: Manifest | None = None
    """Its manifest; None if there is no such report."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Name of a figure -> hash of everything it is drawn from."""
    size: tuple[float, float] | None = None
    """Width and height of every figure in inches; None leaves each figure the size that it is drawn with."""

    def add(self, name: str, draw: Callable[..., Figure], points: pd.DataFrame, *others: object) -> Path:
        """Write the figure `draw(points, *others)`, and the points as CSV; returns the PNG's path.

        `draw` must depend only on its arguments: the columns of `points`, and the others as shown by `repr`.
        """
        write_frame(points, self.folder / f"{name}.csv")
        self.inputs[name] = _hash_of(draw, points, (*others, self.size))
        if not self._copied(name):
            _save(lambda: self._sized(draw(points, *others)), self.folder / name)
        return self.folder / f"{name}.png"

    def _sized(self, figure: Figure) -> Figure:
        """The figure, in the size that the run sets for all its figures, if it sets one."""
        if self.size is not None:
            figure.set_size_inches(self.size)
        return figure

    def _copied(self, name: str) -> bool:
        """Copy the figure if the report to be replaced has the same one, intact; returns whether it does."""
        if self.old is None or self.old.figures.get(name) != self.inputs[name]:
            return False
        try:
            files = {f"{name}{end}": (self.earlier / f"{name}{end}").read_bytes() for end in _ENDINGS}
        except OSError:
            return False  # missing or unreadable: draw it again
        if any(hashlib.sha256(raw).hexdigest() != self.old.files.get(file) for file, raw in files.items()):
            return False
        for file, raw in files.items():
            (self.folder / file).write_bytes(raw)
        return True


def _hash_of(draw: Callable[..., Figure], points: pd.DataFrame, others: tuple[object, ...]) -> str:
    columns = [(name, str(points[name].dtype), points[name].tolist()) for name in points]
    parts = (_drawn_with(), _own_code(draw.__module__), draw.__qualname__, columns, *map(_plain, others))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _own_code(module: str) -> str | None:
    """The code of a task's drawing; None for drawings of this package, whose code counts for every figure."""
    return None if module.startswith("abench.report.") else module_digest(module)


def _plain(value: object) -> object:
    """A mapping as its sorted items; other values unchanged."""
    return sorted(value.items()) if isinstance(value, Mapping) else value


@cache
def _drawn_with() -> str:
    """The code of reports and the versions of all packages that draw, which can change a figure's look."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    machine = (sys.platform, platform.machine(), sys.version, zlib.ZLIB_RUNTIME_VERSION)
    return repr((digest.hexdigest(), [*map(_version, _DRAWN_BY)], machine))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} without a version"


def _save(make: Callable[[], Figure], stem: Path) -> None:
    """Write the figure that `make` draws as PNG and PDF, in the common style of all figures."""
    import matplotlib.style

    # The user's matplotlib settings must not affect the figure, nor ours remain active afterwards.
    with matplotlib.style.context(["default", _LOOK]), warnings.catch_warnings():
        # Names in scripts that the font lacks are drawn as boxes; this cannot be helped.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = make()
        figure.savefig(f"{stem}.png", dpi=DPI, metadata={"Software": None})
        figure.savefig(f"{stem}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
