"""What makes the report's page interactive: scripts and styles of our own, its data, a plotting library.

Without JavaScript the page shows the same tables and figures. Everything is in the one file of the page.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abench.report.frame import Record
from abench.report.interactive.assets import script, style
from abench.report.interactive.charts import charts
from abench.report.interactive.latents import Contexts, latent_data
from abench.report.interactive.library import packed_library
from abench.report.interactive.series import ChartMaker
from abench.report.style import Styles

__all__ = ["Contexts", "interactive_parts"]


def interactive_parts(
    records: Sequence[Record],
    figures: Mapping[str, Sequence[Path]],
    own: Sequence[tuple[Path, ChartMaker]],
    styles: Styles,
    contexts: Mapping[str, Contexts] | None,
) -> dict[str, Any]:
    """What the page's template inserts: `style`, `script`, `data` (JSON for a script element), `library`.

    `figures` maps a kind to PNG files, which have their points next to them as CSV; `own` are the PNG files
    of tasks' own figures that have a chart. `contexts` maps `sae_key` to contexts of latents; `latents`
    tells whether there are any, and is None without such a mapping.
    """
    from jinja2.utils import htmlsafe_json_dumps

    drawn = charts(figures, own, styles)
    latents = latent_data(records, contexts or {}, styles)
    data = {"charts": drawn, "latents": latents}
    return {
        "style": style(),
        "script": script(),
        "data": htmlsafe_json_dumps(data, separators=(",", ":"), allow_nan=False),
        "library": packed_library() if drawn else "",
        "latents": None if contexts is None else latents is not None,
    }
