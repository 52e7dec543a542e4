"""Rows of the hub's data sets, opened with their failures as sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from abench.errors import UserError
from abench.hub import cause_of, data_set_commit, offline_reason, quiet, refusal

Read = TypeVar("Read")


def load_hub_split(
    repository: str,
    split: str,
    config: str | None = None,
    revision: str | None = None,
    *,
    parquet: str | None = None,
    streaming: bool = False,
) -> Any:
    """A split of a hub data set as a datasets.Dataset, or as an IterableDataset if `streaming`.

    `parquet`: a pattern of files of the repository (`data/train-*.parquet`) to be read as they are, instead
    of what its loading script makes of them.

    Whole splits come from the cache of this machine where HF_HUB_OFFLINE is set. Raises UserError, at once,
    where the hub cannot be reached, and for whatever else keeps the data set from being opened.
    """
    if streaming and (reason := offline_reason()) is not None:
        raise UserError(f"the data set {repository} cannot be read: {reason}")
    source: dict[str, Any] = {"path": repository, "name": config, "revision": revision}
    if parquet is not None:
        at = "" if revision is None else f"@{revision}"
        source = {"path": "parquet", "data_files": {split: f"hf://datasets/{repository}{at}/{parquet}"}}

    def read() -> Any:
        import datasets

        return datasets.load_dataset(**source, split=split, streaming=streaming, trust_remote_code=False)

    whole = not streaming and parquet is None
    return read_hub(repository, read, lambda opened: [opened] if whole else [], revision)


def read_hub(
    repository: str,
    read: Callable[[], Read],
    splits: Callable[[Read], Iterable[Any]],
    revision: str | None = None,
) -> Read:
    """What `read` makes of a hub data set through the hub's clients, for readers that open it by themselves.

    `splits` gives the whole splits (datasets.Dataset) that came of it. Where the hub does not answer or knows
    no such revision, datasets takes the state that it prepared last, whichever that is; so the commits of the
    splits are compared with the one that `revision` (None: `main`) stands for.

    Raises UserError as `load_hub_split` does, and for splits of another commit.
    """
    import datasets

    quiet()
    if _exists(repository):
        raise UserError(
            f"the data set {repository} is not read: there is a file or folder of this name here, which the "
            "hub's clients would take for it. Run in another folder"
        )
    reason = offline_reason()
    if reason is not None and not datasets.config.HF_HUB_OFFLINE:
        raise UserError(f"the data set {repository} cannot be read: {reason}")
    commit = data_set_commit(repository, revision)
    # Readers that open it by themselves leave it to datasets, which asks on a terminal.
    datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = False
    try:
        opened = read()
    except Exception as error:
        # The hub's client raises a dozen unrelated types here.
        cause = refusal(error, repository, revision) or _cause(error)
        also = "" if reason is None else f", and {reason}"
        raise UserError(f"the data set {repository} cannot be read: {cause}{also}") from error
    if commit is not None:
        _check_commit(repository, revision, commit, splits(opened))
    return opened


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        # A name that no file can have.
        return False


def _check_commit(repository: str, revision: str | None, commit: str, splits: Iterable[Any]) -> None:
    """The folder of a split's files bears the commit that they were made of."""
    for split in splits:
        if not split.cache_files:
            raise UserError(
                f"the data set {repository} cannot be read: datasets keeps it in memory, where nothing tells "
                "its revision; unset HF_DATASETS_IN_MEMORY_MAX_SIZE"
            )
        if Path(split.cache_files[0]["filename"]).parent.name != commit:
            raise UserError(
                f"the data set {repository} cannot be read: what this machine has of it is not revision "
                f"'{revision or 'main'}'; run once where the hub can be reached"
            )


def _cause(error: Exception) -> str:
    """What an error of datasets says; each message, but one, names the cause."""
    from datasets.exceptions import DatasetGenerationError

    hidden = isinstance(error, DatasetGenerationError)
    lines = str(error.__cause__ if hidden else error).strip().splitlines() or [type(error).__name__]
    said = f"{lines[0]} … {lines[-1]}" if hidden and len(lines) > 1 else lines[0]
    return said.rstrip(" .")


def load_hub_files(repository: str, pattern: str, revision: str | None = None) -> Path:
    """The local folder with the files of a hub data set whose names match a pattern; its name is the commit.

    Downloads what is not cached. Raises UserError where they are neither cached nor to be had.
    """
    from huggingface_hub import snapshot_download

    quiet()
    reason = offline_reason()
    try:
        folder = snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision,
            allow_patterns=pattern,
            local_files_only=reason is not None,
        )
    except Exception as error:
        # Which errors come depends on the client's version and on the HTTP library beneath it.
        cause = refusal(error, repository, revision) or reason or cause_of(error)
        raise UserError(
            f"the files of {repository} are not on this machine and {cause}. "
            "Run once where the hub can be reached; they are kept for later."
        ) from error
    return Path(folder)
