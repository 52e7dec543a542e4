"""Values kept by what they are the value of, so that nothing is asked or computed twice."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from abench.keys import canonical_json, key_of
from abench.sealed import Damaged, read_sealed, write_sealed
from abench.secrets import without_secrets
from abench.storage import writing


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

    Files are written whole or not at all, also by several processes at once, each with its checksum. A file
    that is damaged, or whose spec is another than the one asked for, counts as missing and is written anew;
    `name_damage` is given the file and a sentence about it.
    """

    def __init__(self, root: Path, name_damage: Callable[[Path, str], None] | None = None) -> None:
        self.root = root
        self._name_damage = name_damage

    def file_of(self, spec: Mapping[str, Any]) -> Path:
        """Where the value of a spec lies."""
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
                self._name_damage(file, f"{file} is damaged ({error}); it is asked or computed again")
            return None
        return content.get("value")

    def put(self, spec: Mapping[str, Any], value: Any) -> None:
        """Raises StorageError if the folder cannot be written."""
        # Through text, so that what is kept is what a later `get` reads.
        content = {"spec": json.loads(canonical_json(spec)), "value": json.loads(_text_of(value))}
        file = self.file_of(spec)
        with writing(file):
            write_sealed(file, content)


def _text_of(value: Any) -> str:
    """JSON of a value; raises ValueError or TypeError for what is not plain JSON, and for None."""
    if value is None:
        raise ValueError("None cannot be kept: it stands for a missing value")
    return json.dumps(without_secrets(value), sort_keys=True, allow_nan=False)
