"""The configuration of a run that a report recorded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abench.errors import UserError
from abench.yamlfile import Document

PROVENANCE = "provenance.json"
PROVENANCE_FORMAT = 1
"""Version of the file; raise it when readers of the old one would misunderstand a new one."""
_MOST_BYTES = 1 << 30


def provenance_file(source: str) -> Path | None:
    """The provenance file that a source of a run names: itself or a report's folder; None for others."""
    path = Path(source)
    if path.is_dir() and (path / PROVENANCE).is_file():
        return path / PROVENANCE
    return path if path.suffix == ".json" and path.is_file() else None


def read_provenance(file: Path) -> dict[str, Any]:
    """The content of a report's provenance.json. Raises UserError if it is something else or unreadable."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise UserError(f"{file} is larger than any provenance.json of a report")
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, Mapping) or "abench_provenance" not in content:
        raise UserError(f"{file} is not a provenance.json of a report")
    if content["abench_provenance"] != PROVENANCE_FORMAT:
        raise UserError(
            f"{file} has format {content['abench_provenance']!r}, but this version of abench reads "
            f"{PROVENANCE_FORMAT}: use the version that wrote it, or run its run.yaml"
        )
    if not isinstance(content.get("configuration"), Mapping):
        raise UserError(f"{file} holds no configuration, so the run cannot be repeated")
    return dict(content)


def recorded_run(file: Path) -> Document:
    """The configuration in a provenance.json. Raises UserError as `read_provenance` does."""
    return Document(str(file), dict(read_provenance(file)["configuration"]))
