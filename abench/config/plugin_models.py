"""Models that installed packages and folders describe: YAML files, listed like all plug-ins."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from abench.config.checking import check
from abench.config.model import ModelConfig
from abench.config.shipped import config_names, shipped
from abench.config.sources import Sources
from abench.discovery import Found, add, entries, existing_folder, imported
from abench.errors import UserError
from abench.names import name_problem
from abench.yamlfile import Document, parse_mapping, read_mapping

FoundModel = Found[ModelConfig]

GROUP = "abench.models"
"""The group of entry points whose values are packages with YAML files."""
_ENDINGS = (".yaml", ".yml")


def find_models(folders: Sequence[Path] = ()) -> dict[str, FoundModel]:
    """All models by name: those that come with abench, those of installed packages, then those in `folders`.

    Those in `folders` may replace those of packages, but the names of abench's own cannot be taken. A file
    that does not describe a model is listed with the reason. Raises UserError for a folder that does not
    exist.
    """
    found: dict[str, FoundModel] = {}
    for name in config_names("models"):
        add(found, _described(name, f"abench.configs/models/{name}.yaml", partial(shipped, "models", name)))
    return found | _added(folders, found)


def added_model(name: str, folders: Sequence[Path] = ()) -> tuple[str, ModelConfig] | None:
    """Name and configuration of a model of a package or folder, by its name or alias; None if there is none.

    Raises UserError if its description is not valid.
    """
    own = {each: Found[ModelConfig](each, "abench.configs", None) for each in config_names("models")}
    added = _added(folders, own)
    by_alias = (each for each in added.values() if each.value is not None and name in each.value.aliases)
    each = added.get(name) or next(by_alias, None)
    if each is None:
        return None
    if each.value is None:
        raise UserError(f"model '{name}' ({each.source}) {each.refusal}")
    return each.name, each.value


def added_names(folders: Sequence[Path] = ()) -> list[str]:
    """The names of the models of packages and folders, for messages."""
    return [name for name in find_models(folders) if name not in config_names("models")]


def _added(folders: Sequence[Path], own: dict[str, FoundModel]) -> dict[str, FoundModel]:
    """The models of packages and folders; those with the name of one of abench's `own` under their source."""
    found = dict(own)
    for each in _of_packages():
        add(found, each)
    for folder in folders:
        for file in sorted(existing_folder(folder).iterdir()):
            if file.suffix in _ENDINGS:
                each = _described(file.stem, str(file), partial(read_mapping, file))
                if each.name in own:
                    add(found, each)
                else:
                    found[each.name] = each
    return {name: each for name, each in found.items() if name not in own}


def _of_packages() -> Iterator[FoundModel]:
    for entry in entries(GROUP):
        files = imported(partial(_texts, entry.value))
        if isinstance(files, str):
            yield Found(entry.value, entry.value, None, files)
            continue
        for name, text in files.items():
            where = f"{entry.value}/{name}"
            yield _described(name.rpartition(".")[0], where, partial(parse_mapping, text, where))


def _texts(package: str) -> dict[str, str]:
    """The content of each YAML file of a package, by name."""
    files = sorted(resources.files(package).iterdir(), key=lambda file: file.name)
    return {file.name: file.read_text(encoding="utf-8") for file in files if file.name.endswith(_ENDINGS)}


def _described(name: str, source: str, read: Callable[[], Document]) -> FoundModel:
    """The model of a YAML file, or the sentences about what is wrong with it."""
    if problem := name_problem(name):
        return Found(source, source, None, problems=(f"its name: {problem}",))
    try:
        document = read()
        return Found(name, source, check(ModelConfig, document.values, sources=Sources([document])))
    except UserError as error:
        return Found(name, source, None, problems=tuple(str(error).splitlines()))
