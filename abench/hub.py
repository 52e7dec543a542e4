"""The Hugging Face hub, with its failures as sentences: what is missing, and how to get it."""

import logging
import os
import re
import socket
import sys
from pathlib import Path
from urllib.parse import urlparse

from abench.errors import UserError

NO_MODEL_FILES = [
    *("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.npz", "*.h5", "*.msgpack", "*.ot"),
    *("*.gguf", "*.ggml", "*.onnx", "*.onnx_data", "*.tflite", "*.mlmodel", "*.mlpackage/*", "*.nemo"),
    *("*.tar", "*.zip", "*.py", "*.md", "*.pdf", "*.png", "*.jpg", "*.gif", ".gitattributes"),
]
"""What opening a model never reads: weights in other formats (many are pickles), code, pages.

All the rest is fetched, because which files a tokenizer has depends on its kind, and one that is left behind
may change what it does without a word.
"""

_TIMEOUT = 60.0


def offline_reason() -> str | None:
    """Why the hub cannot be asked, or None if it answers. Never waits longer than three seconds.

    The hub's clients retry for minutes where there is no network; one connection attempt tells at once.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return "HF_HUB_OFFLINE is set"
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")):
        return None
    endpoint = urlparse(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    host = endpoint.hostname or "huggingface.co"
    port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return f"{host} cannot be reached"
    return None


def quiet() -> None:
    """Keep the bars and notices of the hub's clients out of abench's output; what fails is raised anyway.

    The bars of `huggingface_hub` stay on a terminal, where a model's download takes long.
    """
    import datasets
    from huggingface_hub.utils.logging import set_verbosity
    from huggingface_hub.utils.tqdm import disable_progress_bars

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    set_verbosity(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()


def cached_model(repository: str, revision: str | None) -> Path | None:
    """The local folder of a hub model's snapshot if it is on this machine; never asks the network."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository, revision=revision, ignore_patterns=NO_MODEL_FILES, local_files_only=True
        )
    except (OSError, ValueError):
        return None
    return Path(folder)


def fetch_model(repository: str, revision: str | None) -> Path:
    """The local folder of a hub model's snapshot; its name is the commit. Downloads what is not cached.

    Raises UserError if it is not cached and the hub cannot be reached, does not know it or refuses it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    quiet()
    offline = offline_reason()
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            ignore_patterns=NO_MODEL_FILES,
            local_files_only=offline is not None,
        )
    except GatedRepoError as error:
        raise UserError(_gated(repository)) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{repository} has no revision '{revision}' on the hub") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the hub has no model '{repository}', or your token may not see it. {_WAYS}"
        ) from error
    except HFValidationError as error:
        raise UserError(f"'{repository}' cannot be a hub id: {cause_of(error)}") from error
    except Exception as error:
        # Which errors come depends on the client's version and on the HTTP library beneath it.
        sentence = (
            f"the weights of {repository} are not on this machine and {offline}. {_WAYS}"
            if offline
            else f"fetching {repository} from the hub failed: {cause_of(error)}. The same command goes on "
            "where this one stopped."
        )
        raise UserError(sentence) from error
    return Path(folder)


def refusal(error: Exception, repository: str, revision: str | None) -> str | None:
    """What the hub said to a request for a data set, as a clause; None if it did not refuse or was not asked.

    The clients wrap the hub's answers in errors of their own, so the errors behind `error` count as well.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    seen: BaseException | None = error
    while seen is not None:
        # datasets hides the hub's answer and leaves a text.
        if isinstance(seen, GatedRepoError) or "is a gated dataset" in str(seen):
            return "it is gated: accept its terms on the hub and set HF_TOKEN to your token"
        if isinstance(seen, RevisionNotFoundError):
            return f"the hub has no revision '{revision}' of it"
        if isinstance(seen, RepositoryNotFoundError):
            return f"the hub has no data set '{repository}', or your token may not see it"
        seen = seen.__cause__ or seen.__context__
    return None


def data_set_commit(repository: str, revision: str | None) -> str | None:
    """The commit of a data set that a revision (None: `main`) is now.

    Without the hub, the one that it was when the hub was last asked; None where this machine does not know
    and no revision was asked for. Raises UserError where the hub refuses or a revision is not known.
    """
    from huggingface_hub import HfApi

    reason = offline_reason()
    if reason is not None:
        commit = cached_commit(repository, revision)
        if commit is None and revision is not None:
            raise UserError(
                f"the data set {repository} cannot be read: {reason}, and this machine does not know its "
                f"revision '{revision}'"
            )
        return commit
    try:
        return str(HfApi().dataset_info(repository, revision=revision, timeout=_TIMEOUT).sha)
    except Exception as error:
        # Which errors come depends on the client's version and on the HTTP library beneath it.
        cause = refusal(error, repository, revision) or cause_of(error)
        raise UserError(f"the data set {repository} cannot be read: {cause}") from error


def cached_commit(repository: str, revision: str | None) -> str | None:
    """The commit of a data set that a revision (None: `main`) stood for when the hub was last asked.

    A whole hash is a commit by itself. None if this machine does not know.
    """
    from huggingface_hub import try_to_load_from_cache

    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    # Of every data set that is opened the card is fetched first, under the name of the revision.
    card = try_to_load_from_cache(repository, "README.md", revision=revision, repo_type="dataset")
    return Path(card).parent.name if isinstance(card, str) else None


def cause_of(error: Exception) -> str:
    """The first line of what an error of the hub's clients says."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(error).__name__


_WAYS = (
    "Run where the hub can be reached (for gated models accept the licence there and set HF_TOKEN), "
    "or name a local folder with --model PATH."
)


def _gated(repository: str) -> str:
    return (
        f"{repository} is gated: accept its licence on the hub and set HF_TOKEN to your token, "
        "or name a local folder with --model PATH."
    )
