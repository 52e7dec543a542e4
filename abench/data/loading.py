"""Loading data sets from the Hugging Face hub; failures become sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from abench.errors import UserError
from abench.lm.hub import cause_of, data_set_commit, offline_reason, quiet, refusal

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

    `parquet`: a pattern of files in the repository (`data/train-*.parquet`) to read directly, without its
    loading script.

    With HF_HUB_OFFLINE set, whole splits come from this machine's cache. Raises UserError at once if the hub
    cannot be reached, and for everything else that prevents opening the data set.
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
    """The result of `read()`, which opens a hub data set through the hub's clients, with its errors as ours.

    `splits` extracts the whole splits (datasets.Dataset) from the result. If the hub does not answer or does
    not know the revision, datasets silently uses the state that it prepared last; the commits of the splits
    are therefore compared with the commit of `revision` (None: `main`).

    Raises UserError as `load_hub_split` does, and for splits of another commit.
    """
    import datasets

    quiet()
    if _exists(repository):
        raise UserError(
            f"the data set {repository} is not read: the current folder has a file or folder of this name, "
            "which the hub's clients would read instead. Run in another folder"
        )
    reason = offline_reason()
    if reason is not None and not datasets.config.HF_HUB_OFFLINE:
        raise UserError(f"the data set {repository} cannot be read: {reason}")
    commit = data_set_commit(repository, revision)
    # Readers other than ours may leave this option to datasets, which then prompts on a terminal.
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
        # Not a valid file name.
        return False


def _check_commit(repository: str, revision: str | None, commit: str, splits: Iterable[Any]) -> None:
    """Raise UserError unless the splits' cache folders, which are named after a commit, have this one."""
    for split in splits:
        if not split.cache_files:
            raise UserError(
                f"the data set {repository} cannot be read: datasets keeps it in memory, where its revision "
                "is unknown; unset HF_DATASETS_IN_MEMORY_MAX_SIZE"
            )
        if Path(split.cache_files[0]["filename"]).parent.name != commit:
            raise UserError(
                f"the data set {repository} cannot be read: the copy on this machine is not revision "
                f"'{revision or 'main'}'; run once where the hub can be reached"
            )


def _cause(error: Exception) -> str:
    """The message of an error of datasets; for DatasetGenerationError, that of its cause."""
    from datasets.exceptions import DatasetGenerationError

    hidden = isinstance(error, DatasetGenerationError)
    lines = str(error.__cause__ if hidden else error).strip().splitlines() or [type(error).__name__]
    said = f"{lines[0]} … {lines[-1]}" if hidden and len(lines) > 1 else lines[0]
    return said.rstrip(" .")


def load_hub_files(repository: str, pattern: str, revision: str | None = None) -> Path:
    """The local folder with the files of a hub data set that match a pattern; its name is the commit.

    Downloads files that are not cached. Raises UserError if they are neither cached nor available.
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
        # The types of errors depend on the client's version and on its HTTP library.
        cause = refusal(error, repository, revision) or reason or cause_of(error)
        raise UserError(
            f"the files of {repository} are not on this machine and {cause}. "
            "Run once where the hub can be reached; they are cached for later runs."
        ) from error
    return Path(folder)
