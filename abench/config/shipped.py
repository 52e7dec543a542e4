"""The configurations that come with abench: models, training presets, runs."""

from importlib import resources
from typing import Literal

from abench.errors import UserError, did_you_mean, short
from abench.yamlfile import Document, parse_mapping

Kind = Literal["models", "presets", "runs"]


def config_names(kind: Kind) -> tuple[str, ...]:
    """Names of the shipped configurations of one kind, sorted."""
    folder = resources.files("abench.configs").joinpath(kind)
    return tuple(sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")))


def shipped(kind: Kind, name: str) -> Document:
    """The content of a shipped configuration. Raises UserError with near names if it does not exist."""
    names = config_names(kind)
    if name not in names:
        raise UserError(f"there is no {kind[:-1]} {short(name)}{did_you_mean(name, names)}")
    file = resources.files("abench.configs").joinpath(kind, f"{name}.yaml")
    return parse_mapping(file.read_text(encoding="utf-8"), f"configs/{kind}/{name}.yaml")
