"""From the name of a place to its backend: the only place that chooses between kinds of stores."""

from pathlib import Path

from abench.storage.backend import Backend
from abench.storage.bundle import Bundle
from abench.storage.folder import FolderBackend


def backend_at(place: str | Path) -> Backend:
    """The backend of a place, as a user or `Backend.place` names it. Nothing is read or created."""
    return FolderBackend(Path(place))


def bundle_at(folder: Path) -> Bundle:
    """The bundle whose files are in any folder on this machine, in a store or not."""
    return Bundle(FolderBackend(folder), "")
