"""What the stand-in hub serves: repositories with a history, each commit a folder of files."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

Kind = Literal["models", "datasets"]


@cache
def digest(file: Path, algorithm: str = "sha1") -> str:
    """A file's hash; files of a repository never change."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    folder: Path

    @cached_property
    def files(self) -> Mapping[str, Path]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in found}

    @cached_property
    def sha(self) -> str:
        names = "".join(f"{name}\0{digest(file)}\0" for name, file in self.files.items())
        return hashlib.sha1(names.encode()).hexdigest()

    def entry(self, name: str) -> dict[str, Any] | None:
        """A file or folder as the hub's tree describes it; None if there is no such path."""
        if name in self.files:
            return _file_entry(name, self.files[name])
        if any(each.startswith(f"{name}/") for each in self.files):
            return {
                "type": "directory",
                "path": name,
                "size": 0,
                "oid": hashlib.sha1(name.encode()).hexdigest(),
            }
        return None

    def tree(self, under: str, recursive: bool) -> Iterator[dict[str, Any]]:
        """The entries below a folder ("" is the root), folders included."""
        prefix = f"{under}/" if under else ""
        seen = set()
        for name in self.files:
            if not name.startswith(prefix):
                continue
            steps = name.removeprefix(prefix).split("/")
            for depth in range(1, len(steps) + 1 if recursive else 2):
                path = prefix + "/".join(steps[:depth])
                entry = None if path in seen else self.entry(path)
                seen.add(path)
                if entry is not None:
                    yield entry


def _file_entry(name: str, file: Path) -> dict[str, Any]:
    size = file.stat().st_size
    entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": digest(file)}
    if is_large(name):
        entry["lfs"] = {"oid": digest(file, "sha256"), "size": size, "pointerSize": 134}
    return entry


def is_large(name: str) -> bool:
    """Whether the hub keeps such a file outside git; those have another ETag."""
    return name.endswith((".safetensors", ".bin", ".parquet", ".zst", ".pth"))


@dataclass(frozen=True)
class Repository:
    """A model or a data set under its id."""

    kind: Kind
    id: str
    main: Commit
    branches: Mapping[str, Commit] = field(default_factory=dict)
    """Further branches."""
    tags: Mapping[str, Commit] = field(default_factory=dict)
    gated: bool = False
    """Whether its files are only for those whose token has accepted the licence."""

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or a hash names; None if there is none."""
        named = {"main": self.main, **self.branches, **self.tags}
        return named.get(revision) or next((c for c in named.values() if c.sha == revision), None)


def with_older(repository: Repository, folder: Path) -> Repository:
    """A data set that has a tag `older` besides, whose files hold the second half of what they hold now."""
    for name, file in repository.main.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _write_half(file, folder / name)
    return replace(repository, tags={**repository.tags, "older": Commit(folder)})


def _write_half(source: Path, target: Path) -> None:
    if source.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(source)
        pq.write_table(table.slice(len(table) // 2), target)
    elif source.suffix == ".json":
        content = json.loads(source.read_text(encoding="utf-8"))
        kept = list(content.items())[len(content) // 2 :] if "entity" in source.name else content
        target.write_text(json.dumps(dict(kept)), encoding="utf-8")
    else:
        os.link(source, target)
