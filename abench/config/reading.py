"""From YAML files and command-line options, merged, to specs.

Later sources win: a training preset, the model's file, the run's file, options, `--set key=value`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from abench import yamlfile
from abench.config.checking import check
from abench.config.model import ModelConfig
from abench.config.run import RunConfig
from abench.config.shipped import config_names, shipped
from abench.errors import UserError, did_you_mean
from abench.secrets import notice


def is_model_file(name: str) -> bool:
    """Whether a model is given as a YAML file."""
    return Path(name).suffix in {".yaml", ".yml"}


def model_config(name: str) -> ModelConfig:
    """The configuration of a model that comes with abench, or that a YAML file describes.

    Raises UserError, with near names if there is no such model.
    """
    if is_model_file(name):
        values, text = yamlfile.read_mapping(Path(name)), Path(name).read_text(encoding="utf-8")
        return check(ModelConfig, values, where=name, text=text)
    return check(ModelConfig, shipped("models", name), where=f"configs/models/{name}.yaml")


def load_run(source: str | None, options: Mapping[str, Any], assignments: Iterable[str] = ()) -> RunConfig:
    """The run that a file (or the name of a shipped run), options and `key=value` assignments describe.

    `options` maps key paths such as `training.tokens` to values. Options that are None are left out.
    Raises UserError with the file, the line and near names for anything that is not understood.
    """
    merged, where, text = _read_run(source)
    given = {key: value for key, value in options.items() if value is not None}
    if source is None and given:
        # What the default run says of itself does not hold for another one.
        merged.pop("description", None)
    for key, value in given.items():
        _assign(merged, key, value)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise UserError(
                f"--set takes key=value, for example training.learning_rate=1e-3, not '{assignment}'"
            )
        _assign(merged, key.strip(), yamlfile.parse(value, f"--set {key}"))
    preset = _preset_of(merged)
    complete = _merge(shipped("presets", preset), merged) if preset else merged
    return check(RunConfig, complete, where=where, text=text)


def _read_run(source: str | None) -> tuple[dict[str, Any], str, str]:
    if source is None:
        source = "default"
    path = Path(source)
    if path.suffix in {".yaml", ".yml"} or path.exists():
        values, text = yamlfile.read_mapping(path), path.read_text(encoding="utf-8")
        notice(text)
        return values, str(path), text
    if source not in config_names("runs"):
        names = config_names("runs")
        raise UserError(
            f"'{source}' is neither a file nor a run that comes with abench{did_you_mean(source, names)}"
        )
    return shipped("runs", source), f"configs/runs/{source}.yaml", ""


def _preset_of(merged: Mapping[str, Any]) -> str | None:
    if merged.get("preset") is not None:
        return str(merged["preset"])
    model = merged.get("model", RunConfig.model_fields["model"].default)
    if isinstance(model, str) and (model in config_names("models") or is_model_file(model)):
        return model_config(model).preset
    return None


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"'{key}' cannot be set: '{parent}' holds a value, not keys")
        tree = child
    tree[last] = value


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged
