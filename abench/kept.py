"""A cache of values keyed by their full specification, so that nothing is requested or computed twice."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from abench.sanitize.secrets import without_secrets
from abench.storage.backend import Backend
from abench.storage.folder import FolderBackend
from abench.storage.keys import canonical_json, key_of
from abench.storage.sealed import Damaged, content_of, sealed_text

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


class StoredKept:
    """A cache in a store, one value per key: `ab/abcdef….json` holds the spec and the value.

    Values are written atomically, with a checksum, and may be written by several processes at once. One that
    is damaged or holds another spec than the requested one counts as missing and is written again;
    `name_damage` is called with its name and a sentence that describes the damage.
    """

    def __init__(
        self, backend: Backend, above: str = "", name_damage: Callable[[str, str], None] | None = None
    ) -> None:
        """`above` begins the names of all values, e.g. `kept/`."""
        self._backend, self._above = backend, above
        self._name_damage = name_damage

    def _name_of(self, spec: Mapping[str, Any]) -> str:
        key = key_of(spec)
        return f"{self._above}{key[:2]}/{key}.json"

    def get(self, spec: Mapping[str, Any]) -> Any | None:
        name = self._name_of(spec)
        try:
            content = content_of(self._backend.read(name))
            if canonical_json(content.get("spec", {})) != canonical_json(without_secrets(spec)):
                raise Damaged("it holds the value of another spec")
        except FileNotFoundError:
            return None
        except Damaged as error:
            if self._name_damage is not None:
                shown = self._backend.shown(name)
                self._name_damage(
                    name, f"{shown} is damaged ({error}); its value is requested or computed again"
                )
            return None
        return content.get("value")

    def put(self, spec: Mapping[str, Any], value: Any) -> None:
        """Raises StorageError if the store cannot be written."""
        # A round trip through text, so that what is stored equals what a later `get` reads.
        content = {"spec": json.loads(canonical_json(spec)), "value": json.loads(_text_of(value))}
        self._backend.write(self._name_of(spec), sealed_text(content))


class FolderKept(StoredKept):
    """A cache in a folder, which several processes may use (`StoredKept`)."""

    def __init__(self, root: Path | str, name_damage: Callable[[Path, str], None] | None = None) -> None:
        """`name_damage` is called with the file and a sentence."""
        self.root = folder = Path(root)

        def say(name: str, sentence: str) -> None:
            if name_damage is not None:
                name_damage(folder / name, sentence)

        super().__init__(FolderBackend(folder), name_damage=say)

    def file_of(self, spec: Mapping[str, Any]) -> Path:
        """The file in which the value of a spec is stored."""
        return self.root / self._name_of(spec)


def _text_of(value: Any) -> str:
    """A value as JSON text; raises ValueError or TypeError if it is not plain JSON or is None."""
    if value is None:
        raise ValueError("None cannot be stored: it stands for a missing value")
    return json.dumps(without_secrets(value), sort_keys=True, allow_nan=False)
