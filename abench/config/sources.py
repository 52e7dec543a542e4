"""Where the values of a run come from, so that a mistake is looked for where it was made."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from abench.complaints import named
from abench.errors import OptionError, UserError
from abench.yamlfile import Document, KeyPath


@dataclass(frozen=True)
class Sources:
    """Documents that are merged key by key; a later one wins."""

    documents: Sequence[Document]
    asked: Sequence[Document] = ()
    """Those of them that were written for this run: its file, options and assignments, but no preset."""

    @property
    def values(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for document in self.documents:
            merged = merge(merged, document.values)
        return merged

    def place(self, path: KeyPath) -> str:
        """`file:line` or the option that gave the value at a key path, or what is nearest above it."""
        return _found(self.documents, path)[1]

    def subject(self, path: KeyPath) -> str:
        """Place and key, with which a sentence begins: `run.yaml:3: item 2 of k`.

        An option that stands for the key is a name for it, so the key is not repeated: `item 2 of --k`.
        """
        document, place = _found(self.documents, path)
        of = len(document.says)
        if of and path[:of] == document.says and all(isinstance(step, int) for step in path[of:]):
            return named((place, *path[of:]))
        return f"{place}: {named(path)}"

    def asked_place(self, path: KeyPath) -> str | None:
        """The same for what this run asks itself; None for a value that it does not mention."""
        found = [place for each in reversed(self.asked) if (place := each.place(path))]
        return found[0] if found else None

    @contextmanager
    def blamed(self, *path: str) -> Iterator[None]:
        """Puts the place of a key path before the sentences of UserErrors that are raised inside."""
        try:
            yield
        except UserError as error:
            exact = (*path, *error.path) if isinstance(error, OptionError) else path
            raise UserError(f"{self.place(exact)}: {error}") from error


def _found(documents: Sequence[Document], path: KeyPath) -> tuple[Document, str]:
    """The document that gave the value at a key path, or what is nearest above it, and the place in it."""
    for length in range(len(path), 0, -1):
        for document in reversed(documents):
            place = document.place(path[:length])
            if place is not None:
                return document, place
    return documents[-1], documents[-1].where


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of both; where both have one, mappings are merged and any other value is `above`'s."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged
