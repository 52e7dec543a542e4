"""What makes the report's page interactive: scripts and styles of our own, its data, a plotting library.

Without JavaScript the page shows the same tables and figures. Everything is in the one file of the page.
"""

from typing import Any

from abench.report.interactive.assets import script, style

__all__ = ["interactive_parts"]


def interactive_parts() -> dict[str, Any]:
    """What the page's template inserts: `style`, `script`."""
    return {"style": style(), "script": script()}
