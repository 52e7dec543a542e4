"""Access to the Hugging Face hub; failures become sentences that state what is missing and how to get it."""

import logging
import os
import re
import socket
import sys
from pathlib import Path
from urllib.parse import urlparse

from abench.errors import UserError
from abench.foreign import hush_libraries

NO_MODEL_FILES = [
    *("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.npz", "*.h5", "*.msgpack", "*.ot"),
    *("*.gguf", "*.ggml", "*.onnx", "*.onnx_data", "*.tflite", "*.mlmodel", "*.mlpackage/*", "*.nemo"),
    *("*.tar", "*.zip", "*.py", "*.md", "*.pdf", "*.png", "*.jpg", "*.gif", ".gitattributes"),
]
"""Files that opening a model never reads: weights in other formats (many are pickles), code, documentation.

All other files are downloaded: the files of a tokenizer depend on its kind, and a missing one may silently
change how it tokenizes.
"""

_TIMEOUT = 60.0


def offline_reason() -> str | None:
    """Why the hub cannot be reached, or None if it answers. Waits three seconds at most.

    The hub's clients retry for minutes without a network; one connection attempt settles it at once.
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
    """Keep progress bars and notices of the hub's clients out of abench's output; failures still raise.

    For programs that imported them before `hush_libraries` could take effect. On a terminal the bars of
    `huggingface_hub` remain, because downloading a model takes long.
    """
    import datasets
    from huggingface_hub.utils.logging import set_verbosity
    from huggingface_hub.utils.tqdm import disable_progress_bars

    hush_libraries()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    set_verbosity(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()


def cached_model(repository: str, revision: str | None) -> Path | None:
    """The local folder of a hub model's snapshot, or None if it is not on this machine; never online."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository, revision=revision, ignore_patterns=NO_MODEL_FILES, local_files_only=True
        )
    except (OSError, ValueError):
        return None
    return Path(folder)


def fetch_model(repository: str, revision: str | None) -> Path:
    """The local folder of a hub model's snapshot, named after the commit. Downloads files not cached.

    Raises UserError if it is not cached and the hub cannot be reached, does not have it or denies access.
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
        raise UserError(
            f"{repository} is gated: accept its licence on the hub and set HF_TOKEN to your token, "
            "or give a local folder with --model PATH."
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{repository} has no revision '{revision}' on the hub") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the hub has no model '{repository}', or your token has no access to it. {_WAYS}"
        ) from error
    except HFValidationError as error:
        raise UserError(f"'{repository}' cannot be a hub id: {cause_of(error)}") from error
    except Exception as error:
        # The types of errors depend on the client's version and on its HTTP library.
        sentence = (
            f"the weights of {repository} are not on this machine and {offline}. {_WAYS}"
            if offline
            else f"downloading {repository} from the hub failed: {cause_of(error)}. Run the same command "
            "again to resume."
        )
        raise UserError(sentence) from error
    return Path(folder)


def refusal(error: Exception, repository: str, revision: str | None) -> str | None:
    """Why the hub refused a request for a data set, as a clause; None if it did not refuse or answer.

    The clients wrap the hub's answers in errors of their own, so the causes of `error` are searched as well.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    seen: BaseException | None = error
    while seen is not None:
        # datasets hides the hub's answer; only the text remains.
        if isinstance(seen, GatedRepoError) or "is a gated dataset" in str(seen):
            return "it is gated: accept its terms on the hub and set HF_TOKEN to your token"
        if isinstance(seen, RevisionNotFoundError):
            return f"the hub has no revision '{revision}' of it"
        if isinstance(seen, RepositoryNotFoundError):
            return f"the hub has no data set '{repository}', or your token has no access to it"
        seen = seen.__cause__ or seen.__context__
    return None


def data_set_commit(repository: str, revision: str | None) -> str | None:
    """The commit that a revision (None: `main`) of a data set currently points to.

    Offline, the commit it pointed to when the hub was last reached; None if this machine does not know it and
    no revision was requested. Raises UserError if the hub refuses or a revision is unknown.
    """
    from huggingface_hub import HfApi

    reason = offline_reason()
    if reason is not None:
        commit = cached_commit(repository, revision)
        if commit is None and revision is not None:
            raise UserError(
                f"the data set {repository} cannot be read: {reason}, and this machine has no record "
                f"of its revision '{revision}'"
            )
        return commit
    try:
        return str(HfApi().dataset_info(repository, revision=revision, timeout=_TIMEOUT).sha)
    except Exception as error:
        # The types of errors depend on the client's version and on its HTTP library.
        cause = refusal(error, repository, revision) or cause_of(error)
        raise UserError(f"the data set {repository} cannot be read: {cause}") from error


def cached_commit(repository: str, revision: str | None) -> str | None:
    """The commit that a revision (None: `main`) of a data set pointed to when the hub was last reached.

    A full hash is a commit already. None if this machine does not know.
    """
    from huggingface_hub import try_to_load_from_cache

    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    # The card of every data set is fetched first when it is opened, under the name of the revision.
    card = try_to_load_from_cache(repository, "README.md", revision=revision, repo_type="dataset")
    return Path(card).parent.name if isinstance(card, str) else None


def cause_of(error: Exception) -> str:
    """The first line of an error's message, for errors of the hub's clients."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(error).__name__


_WAYS = (
    "Run where the hub can be reached (for a gated model, accept its licence there and set HF_TOKEN), "
    "or give a local folder with --model PATH."
)
