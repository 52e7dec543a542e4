"""SAEs on the hub: repositories with folders of any known format, and sae-lens's directory of releases."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from glob import escape
from operator import methodcaller
from pathlib import Path, PurePosixPath

from sae_lens.loading.pretrained_sae_loaders import (
    NAMED_PRETRAINED_SAE_LOADERS,
    get_conversion_loader_name,
    load_sae_config_from_huggingface,
)
from sae_lens.loading.pretrained_saes_directory import (
    PretrainedSAELookup,
    get_config_overrides,
    get_pretrained_saes_directory,
)

from abench.errors import UserError, short
from abench.importing.building import sae_class_of
from abench.importing.formats.saelens import from_settings
from abench.importing.near import near_names
from abench.importing.parsed import Parsed
from abench.lm.hub import cause_of, offline_reason, quiet

_MOST_SHOWN = 6


def releases() -> dict[str, PretrainedSAELookup]:
    """sae-lens's directory of releases, which comes with the package."""
    directory: dict[str, PretrainedSAELookup] = get_pretrained_saes_directory()
    return directory


def parse_release(release: str, sae_id: str) -> Parsed:
    """An SAE of a release, downloaded if it is not on this machine. Raises UserError."""
    lookup, source = releases()[release], f"{release}/{sae_id}"
    if sae_id not in lookup.saes_map:
        wanted = f"no SAE {short(sae_id)}" if sae_id else "more than one SAE, so give its name too"
        known = [f"{release}/{each}" for each in lookup.saes_map]
        raise UserError(f"the release {release} of sae-lens has {wanted}{near_names(source, known)}")
    load = NAMED_PRETRAINED_SAE_LOADERS[get_conversion_loader_name(release)]
    with _hub(lookup.repo_id):
        # The configuration is small, and tells whether the weights are worth downloading.
        sae_class_of(load_sae_config_from_huggingface(release, sae_id), source)
        config, weights, _ = load(
            repo_id=lookup.repo_id,
            folder_name=lookup.saes_map[sae_id],
            device="cpu",
            force_download=False,
            cfg_overrides={**get_config_overrides(release, sae_id), "device": "cpu", "dtype": "float32"},
        )
    parsed = from_settings(config, weights, source)
    scale = lookup.norm_scaling_factor.get(sae_id)
    if config.get("normalize_activations") == "expected_average_only_in" and scale is not None:
        note = f"sae-lens's directory states the factor {scale:.4g} of its input, which abench folds in."
        fold = methodcaller("fold_activation_norm_scaling_factor", scale)
        parsed = replace(parsed, fold=fold, config={**config, "scale": scale}, notes=(note,))
    # The directory states 0 where no L0 was recorded.
    return replace(parsed, l0=lookup.expected_l0.get(sae_id) or None)


def repository_folder(source: str, patterns: Sequence[str]) -> Path:
    """The local folder of `owner/name` or `owner/name/folder`, with the files that match one of the patterns.

    Files that are not on this machine are downloaded. Raises UserError if there are none, or if the
    repository holds several SAEs and no folder is given.
    """
    from huggingface_hub import HfApi, snapshot_download

    owner, name, *steps = source.split("/")
    repository, folder = f"{owner}/{name}", "/".join(steps)
    with _hub(repository) as offline:
        if offline is None:
            files = HfApi().list_repo_files(repository)
            if folder not in (folders := _folders_of_saes(files, patterns)):
                raise UserError(_nothing(repository, folder, folders))
        chosen = list(_patterns_in(folder, patterns))
        snapshot = snapshot_download(repository, allow_patterns=chosen, local_files_only=offline is not None)
        there = Path(snapshot) / folder
        if not there.is_dir():
            raise FileNotFoundError(there)
    return there


def _patterns_in(folder: str, patterns: Sequence[str]) -> Iterator[str]:
    """Patterns of the files of an SAE in a folder of a repository, and of a run's config.json above it."""
    place = PurePosixPath(folder)
    for pattern in patterns:
        yield str(PurePosixPath(escape(folder)) / pattern)
    if folder:
        yield escape(str(place.parent / "config.json"))


def _folders_of_saes(files: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The folders of a repository with a file that has the name of an SAE's weights; "" is the root."""
    weights = [pattern for pattern in patterns if not pattern.endswith(".json")]
    paths = [PurePosixPath(file) for file in files]
    folders = {path.parent for path in paths if any(fnmatchcase(path.name, each) for each in weights)}
    return sorted("" if str(folder) == "." else str(folder) for folder in folders)


def _nothing(repository: str, folder: str, folders: Sequence[str]) -> str:
    where = f"{repository}/{folder}" if folder else repository
    known = [f"{repository}/{each}" if each else repository for each in folders]
    if folder or not known:
        return f"{where} on the hub holds no SAE in a known format{near_names(where, known)}"
    more = f" and {len(known) - _MOST_SHOWN} more" if len(known) > _MOST_SHOWN else ""
    return f"{where} holds several SAEs, so give the folder of one: {', '.join(known[:_MOST_SHOWN])}{more}"


@contextmanager
def _hub(repository: str) -> Iterator[str | None]:
    """Yields why the hub cannot be reached, or None; errors of its clients become sentences."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    quiet()
    offline = offline_reason()
    before = constants.HF_HUB_OFFLINE
    # sae-lens's loaders have no option for this, and their downloads retry for minutes without a network.
    constants.HF_HUB_OFFLINE = before or offline is not None
    try:
        yield offline
    except UserError:
        raise
    except GatedRepoError as error:
        raise UserError(
            f"{repository} is gated: accept its licence on the hub and set HF_TOKEN to your token"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the hub has no repository '{repository}', or your token has no access to it"
        ) from error
    except HFValidationError as error:
        raise UserError(f"'{repository}' cannot be a hub id: {cause_of(error)}") from error
    except Exception as error:
        # The types of errors depend on the client's version and on its HTTP library.
        sentence = (
            f"the SAE in {repository} is not on this machine and {offline}; run where the hub can be "
            "reached, or give a local folder"
            if offline
            else f"downloading {repository} failed: {cause_of(error)}; run the same command again"
        )
        raise UserError(sentence) from error
    finally:
        constants.HF_HUB_OFFLINE = before
