"""The configurations that come with abench: models, training presets, runs."""

from importlib import resources
from typing import Any, Literal

from abench import yamlfile
from abench.errors import UserError, did_you_mean

Kind = Literal["models", "presets", "runs"]


def config_names(kind: Kind) -> tuple[str, ...]:
    """Names of the configurations of a kind that come with abench."""
    folder = resources.files("abench.configs").joinpath(kind)
    return tuple(sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")))


def shipped(kind: Kind, name: str) -> dict[str, Any]:
    """What a shipped configuration says. Raises UserError, with near names, if there is none of this name."""
    names = config_names(kind)
    if name not in names:
        raise UserError(f"there is no {kind[:-1]} '{name}'{did_you_mean(name, names)}")
    file = resources.files("abench.configs").joinpath(kind, f"{name}.yaml")
    value: dict[str, Any] = yamlfile.parse(file.read_text(encoding="utf-8"), file.name)
    return value
