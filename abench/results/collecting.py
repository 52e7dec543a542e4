"""Pausing Python's cyclic garbage collector where it cannot find anything."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector.

    Reading very many records creates only objects that stay alive. Scanning them repeatedly would take a
    fifth of the time of a report with 20,000 cells.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
