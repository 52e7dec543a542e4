"""A cache of values keyed by their full specification, so that nothing is requested or computed twice."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from abench.sanitize.secrets import without_secrets
from abench.storage.faults import writing
from abench.storage.keys import canonical_json, key_of
from abench.storage.sealed import Damaged, read_sealed, write_sealed

__all__ = ["FolderKept", "Kept", "MemoryKept"]


class Kept(Protocol):
    """A cache of values keyed by their full spec. Specs and values are plain JSON."""

    def get(self, spec: Mapping[str, Any]) -> Any | None:
        """The value stored for a spec; None if there is none or it is damaged."""
        ...

    def put(self, spec: Mapping[str, Any], value: Any) -> None:
        """Store a value, which must not be None. Every `get` after this call returns it."""
        ...


class MemoryKept:
    """A cache in memory, for the lifetime of the process."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, spec: Mapping[str, Any]) -> Any | None:
        text = self._values.get(canonical_json(spec))
        return None if text is None else json.loads(text)

    def put(self, spec: Mapping[str, Any], value: Any) -> None:
        # Stored as text, so that a later change of the object does not change the cache, as with a folder.
        self._values[canonical_json(spec)] = _text_of(value)


class FolderKept:
    """A cache in a folder, one file per key: `ab/abcdef….json` holds the spec and the value.

    Files are written atomically, with a checksum, and may be written by several processes at once. A file
    that is damaged or holds another spec than the requested one counts as missing and is written again;
    `name_damage` is called with the file and a sentence that describes the damage.
    """

    def __init__(self, root: Path | str, name_damage: Callable[[Path, str], None] | None = None) -> None:
        self.root = Path(root)
        self._name_damage = name_damage

    def file_of(self, spec: Mapping[str, Any]) -> Path:
        """The file in which the value of a spec is stored."""
        key = key_of(spec)
        return self.root / key[:2] / f"{key}.json"

    def get(self, spec: Mapping[str, Any]) -> Any | None:
        file = self.file_of(spec)
        try:
            content = read_sealed(file)
            if canonical_json(content.get("spec", {})) != canonical_json(without_secrets(spec)):
                raise Damaged("it holds the value of another spec")
        except FileNotFoundError:
            return None
        except Damaged as error:
            if self._name_damage is not None:
                self._name_damage(
                    file, f"{file} is damaged ({error}); its value is requested or computed again"
                )
            return None
        return content.get("value")

    def put(self, spec: Mapping[str, Any], value: Any) -> None:
        """Raises StorageError if the folder cannot be written."""
        # A round trip through text, so that what is stored equals what a later `get` reads.
        content = {"spec": json.loads(canonical_json(spec)), "value": json.loads(_text_of(value))}
        file = self.file_of(spec)
        with writing(file):
            write_sealed(file, content)


def _text_of(value: Any) -> str:
    """A value as JSON text; raises ValueError or TypeError if it is not plain JSON or is None."""
    if value is None:
        raise ValueError("None cannot be stored: it stands for a missing value")
    return json.dumps(without_secrets(value), sort_keys=True, allow_nan=False)
