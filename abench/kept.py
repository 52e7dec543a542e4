"""Values kept by what they are the value of, so that nothing is asked or computed twice."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from abench.errors import UserError
from abench.files import write_whole
from abench.keys import canonical_json, key_of
from abench.secrets import without_secrets


class Kept(Protocol):
    """A place to keep values, addressed by their whole spec. Specs and values are plain JSON."""

    def get(self, spec: Mapping[str, Any]) -> Any | None:
        """The value of a spec; None if there is none that is whole."""
        ...

    def put(self, spec: Mapping[str, Any], value: Any) -> None:
        """Keep a value, which is not None; from when this returns it is there for every later `get`."""
        ...


class MemoryKept:
    """Kept as long as the process lives."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, spec: Mapping[str, Any]) -> Any | None:
        text = self._values.get(canonical_json(spec))
        return None if text is None else json.loads(text)

    def put(self, spec: Mapping[str, Any], value: Any) -> None:
        # As text, so that changing the value afterwards changes nothing here, as with a folder.
        self._values[canonical_json(spec)] = _text_of(value)


class FolderKept:
    """Kept in a folder, one file for each key: `ab/abcdef….json` holds the spec and the value.

    Files are written whole or not at all, also by several processes at once. A file that is damaged, or
    whose spec is another than the one asked for, counts as missing and is written anew.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def file_of(self, spec: Mapping[str, Any]) -> Path:
        """Where the value of a spec lies."""
        key = key_of(spec)
        return self.root / key[:2] / f"{key}.json"

    def get(self, spec: Mapping[str, Any]) -> Any | None:
        try:
            content = json.loads(self.file_of(spec).read_text(encoding="utf-8"))
            whole = canonical_json(content["spec"]) == canonical_json(without_secrets(spec))
            return content["value"] if whole else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, spec: Mapping[str, Any], value: Any) -> None:
        """Raises UserError if the folder cannot be written."""
        text = f'{{"spec":{canonical_json(without_secrets(spec))},"value":{_text_of(value)}}}\n'
        try:
            write_whole(self.file_of(spec), text)
        except OSError as error:
            raise UserError(
                f"the folder {self.root} cannot be written ({error.strerror}): choose another, or free space"
            ) from error


def _text_of(value: Any) -> str:
    """JSON of a value; raises ValueError or TypeError for what is not plain JSON, and for None."""
    if value is None:
        raise ValueError("None cannot be kept: it stands for a missing value")
    return json.dumps(without_secrets(value), sort_keys=True, allow_nan=False)
