"""The origins of a run's values, so that messages name the place of a mistake."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from abench.config.complaints import named
from abench.errors import OptionError, UserError
from abench.yamlfile import Document, KeyPath


@dataclass(frozen=True)
class Sources:
    """Documents that are merged key by key; later ones override earlier ones."""

    documents: Sequence[Document]
    asked: Sequence[Document] = ()
    """The documents written for this run: its file, options and assignments, but not the preset."""

    @property
    def values(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for document in self.documents:
            merged = merge(merged, document.values)
        return merged

    def place(self, path: KeyPath) -> str:
        """`file:line` or the option that set the value at a key path, or else its nearest parent."""
        return _found(self.documents, path)[1]

    def subject(self, path: KeyPath) -> str:
        """Place and key as the beginning of a message: `run.yaml:3: item 2 of k`.

        The name of an option already names its key, so the key is not repeated: `item 2 of --k`.
        """
        document, place = _found(self.documents, path)
        of = len(document.says)
        if of and path[:of] == document.says and all(isinstance(step, int) for step in path[of:]):
            return named((place, *path[of:]))
        return f"{place}: {named(path)}"

    def asked_place(self, path: KeyPath) -> str | None:
        """The place of a value that this run itself sets; None for a value that it does not set."""
        found = [place for each in reversed(self.asked) if (place := each.place(path))]
        return found[0] if found else None

    @contextmanager
    def blamed(self, *path: str) -> Iterator[None]:
        """While active, UserErrors get the place of a key path in front of their message."""
        try:
            yield
        except UserError as error:
            exact = (*path, *error.path) if isinstance(error, OptionError) else path
            raise UserError(f"{self.place(exact)}: {error}") from error


def _found(documents: Sequence[Document], path: KeyPath) -> tuple[Document, str]:
    """The document that set the value at a key path or else its nearest parent, and the place in it."""
    for length in range(len(path), 0, -1):
        for document in reversed(documents):
            place = document.place(path[:length])
            if place is not None:
                return document, place
    return documents[-1], documents[-1].where


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of both. If both have a key, mappings are merged and other values are taken from `above`."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged
