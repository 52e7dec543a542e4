"""plotly.js, packed for the page.

The package of that name carries one script of 4.8 MB, which would be most of a page. Packed it has 1.5 MB;
browsers unpack it by themselves (`DecompressionStream`) when the first figure comes into view.
"""

import base64
import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def packed_library() -> str:
    """plotly.js with gzip, in base64; empty if the installed plotly does not carry it."""
    found = find_spec("plotly")  # without importing the package, which the page does not need
    if found is None or found.origin is None:
        return ""
    file = Path(found.origin).parent / "package_data" / "plotly.min.js"
    if not file.is_file():
        return ""
    return base64.b64encode(gzip.compress(file.read_bytes(), 6, mtime=0)).decode()
