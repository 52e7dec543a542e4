"""abench's own cache of converted models: each is written once, completely or not at all, with checksums."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from abench.storage.content import files_under
from abench.storage.faults import writing
from abench.storage.files import file_hash, flush, hidden_name, remove
from abench.storage.locks import Held, guarded
from abench.storage.sealed import Damaged, Verified, read_sealed, write_sealed

MANIFEST = "manifest.json"
_WAIT_SECONDS = 24 * 3600.0
_REMEDY = (
    "free some space, or set ABENCH_CACHE to a folder that can be written, and type the same command again"
)

_verified = Verified()


def cache_root() -> Path:
    """The folder of the cache: ABENCH_CACHE, or abench in XDG_CACHE_HOME, by default ~/.cache/abench."""
    own, shared = os.environ.get("ABENCH_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).absolute()
    # A relative XDG_CACHE_HOME counts as unset (XDG Base Directory Specification).
    return (Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache") / "abench"


def model_folder(commit: str) -> Path:
    """The place of a converted model in the cache, whether or not it is there."""
    return cache_root() / "models" / commit


def check_model(folder: Path) -> None:
    """Raise Damaged unless a model of the cache has exactly the files and contents that were written.

    A file is read again only if it has changed since this process last read it.
    """
    try:
        files = read_sealed(folder / MANIFEST).get("files")
    except FileNotFoundError as error:
        raise Damaged(f"{MANIFEST} is missing") from error
    if not isinstance(files, dict):
        raise Damaged("it does not list its files")
    found = set(files_under(folder)) - {MANIFEST}
    if found != set(files):
        name = sorted(found ^ set(files))[0]
        raise Damaged(f"{name} is {'missing' if name in files else 'not a file that abench wrote'}")
    for name, digest in files.items():
        try:
            _verified.check(folder / name, digest)
        except Damaged as damage:
            raise Damaged(f"{name}: {damage}") from damage


def model_is_whole(folder: Path) -> bool:
    """Whether a model is in the cache and undamaged."""
    try:
        check_model(folder)
    except (Damaged, OSError):
        return False
    return True


def make_model(
    commit: str, make: Callable[[Path, Path], Mapping[str, Any]], say: Callable[[str], None]
) -> Path:
    """The folder of a converted model, which is made unless it is there and undamaged.

    `make(scratch, folder)` writes the model's files into the empty folder `folder`, may use the empty folder
    `scratch`, and returns what the manifest states about their origin. Processes that need the same model
    wait for the one that makes it. What ended processes have left is removed first. Raises StorageError if
    the cache cannot be written, and the errors of `make`; nothing unfinished remains.
    """
    final = model_folder(commit)
    if model_is_whole(final):
        with suppress(Held, OSError), guarded(_lock_of(final), wait=0):
            _clear(final)
        return final
    with writing(final, _REMEDY), _locked(final, say):
        _clear(final)
        if model_is_whole(final):
            return final
        draft = hidden_name(final)
        try:
            _write(draft, final, make)
        finally:
            remove(draft, all_or_error=False)
    return final


def _write(draft: Path, final: Path, make: Callable[[Path, Path], Mapping[str, Any]]) -> None:
    model, scratch = draft / "model", draft / "scratch"
    for folder in (model, scratch):
        folder.mkdir(parents=True)
    origin = make(scratch, model)
    files = files_under(model)
    for file in files.values():
        flush(file)
    hashes = {name: file_hash(file) for name, file in files.items()}
    write_sealed(model / MANIFEST, {"origin": dict(origin), "files": hashes})
    for file in files.values():
        # safetensors makes files that no other user of the machine may read.
        file.chmod((model / MANIFEST).stat().st_mode)
    if os.path.lexists(final):
        # A damaged model. It is moved away first, because only an empty folder can be replaced.
        final.replace(draft / "damaged")
    model.replace(final)


@contextmanager
def _locked(final: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of one model, which is kept next to its folder."""
    lock = _lock_of(final)
    with ExitStack() as held:
        try:
            held.enter_context(guarded(lock, wait=0))
        except Held:
            say("Waiting for another process that is preparing the same model.")
            held.enter_context(guarded(lock, wait=_WAIT_SECONDS))
        yield


def _lock_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.lock")


def _clear(final: Path) -> None:
    """Remove the drafts of a model. Its lock is held, so that their writers have ended."""
    for path in final.parent.glob(f".{final.name}.*"):
        if path.is_dir():
            remove(path)
