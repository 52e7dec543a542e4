"""YAML files and command-line options, merged, to specs.

Later sources override earlier ones: a training preset, the model's file, the run's file, options, `--set`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abench import yamlfile
from abench.config.checking import check
from abench.config.members import RUNS, SMALL, Member, members_of, split_member, without_members
from abench.config.model import ModelConfig
from abench.config.plugin_models import added_model
from abench.config.recorded_run import provenance_file, recorded_run
from abench.config.run import RunConfig
from abench.config.shipped import config_names, shipped
from abench.config.sources import Sources
from abench.config.specs import TrainingSpec
from abench.config.sweeps import settings
from abench.errors import UserError, did_you_mean, short
from abench.yamlfile import Document

_MOST_STEPS = 10
"""Most keys in a key path; no real path has more than three."""


def is_model_file(name: str) -> bool:
    """Whether the name of a model is the path of a YAML file."""
    return Path(name).suffix in {".yaml", ".yml"}


def model_named(name: str) -> str | None:
    """The name of the model that comes with abench under this name or alias; None if there is none."""
    # The files of all models are read only if necessary.
    return name if name in config_names("models") else model_names().get(name)


def model_names() -> dict[str, str]:
    """All names and aliases of the models that come with abench -> the model's name."""
    names = config_names("models")
    aliases = {alias: name for name in names for alias in model_config(name).aliases}
    return aliases | {name: name for name in names}


def model_config(name: str) -> ModelConfig:
    """The configuration of a model that comes with abench or that a YAML file describes.

    Raises UserError; if there is no such model, the message suggests near names.
    """
    document = yamlfile.read_mapping(Path(name)) if is_model_file(name) else shipped("models", name)
    return check(ModelConfig, document.values, sources=Sources([document]))


@dataclass(frozen=True)
class Described:
    """The configuration of a run, and where each of its values comes from."""

    config: RunConfig
    """With the first value of every training option that has several."""
    sources: Sources
    trainings: tuple[tuple[dict[str, Any], TrainingSpec], ...]
    """(The training options that differ, with their values; the whole training) pairs, one per combination of
    values; a single pair, in which nothing differs, if every option has one value."""


def load_run(source: str | None, options: Mapping[str, Any], assignments: Iterable[str] = ()) -> RunConfig:
    """The run described by a file (or the name of a shipped run), options and `key=value` assignments.

    `options` maps key paths such as `training.tokens` to values; values of None are ignored.
    Raises UserError, which names the file and line or the option, for every value that is not valid, and for
    a training option with several values, which one configuration cannot hold (`describe_run`).
    """
    described = describe_run(source, options, assignments)
    if len(described.trainings) > 1:
        several = ", ".join(described.trainings[0][0])
        raise UserError(f"training has several values of {several}; one configuration holds one training")
    return described.config


def describe_run(
    source: str | None,
    options: Mapping[str, Any],
    assignments: Iterable[str] = (),
    *,
    named: Mapping[str, str] | None = None,
    plugins: Sequence[Path] = (),
) -> Described:
    """As `load_run`, with the origin of each value. `named` maps key paths to option names for messages.

    The model may be one that a YAML file in a folder of `plugins` describes.
    """
    given = {key: value for key, value in options.items() if value is not None}
    own = _one_run(source, _model_of(given, assignments))
    if source is None and given:
        # The description of the default run does not apply to a different one; SAEs that are given have a
        # model of their own and replace the variants.
        dropped = {"description", *(("variants", "model") if given.get("saes") else ())}
        values = {key: value for key, value in own.values.items() if key not in dropped}
        own = Document(own.where, values, own.lines)
    asked = [own]
    for key, value in given.items():
        asked.append(_assigned((named or {}).get(key, f"option {key}"), key, value, asked))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise UserError(
                f"--set needs key=value, e.g. training.learning_rate=1e-3, not {short(assignment)}"
            )
        where = f"--set {short(key.strip())[1:-1]}"
        asked.append(_assigned(where, key.strip(), yamlfile.parse(value, where), asked))
    below = _preset_of(Sources(asked), plugins)
    sources = Sources([*below, *asked], asked=asked)
    differing, configs = _of_each_training(sources)
    trainings = tuple(zip(differing, (config.training for config in configs), strict=True))
    return Described(configs[0], sources, trainings)


def _of_each_training(sources: Sources) -> tuple[list[dict[str, Any]], list[RunConfig]]:
    """The combinations of the training options' values: what differs, and the run with each of them."""
    values, training = sources.values, sources.values.get("training")
    if not isinstance(training, Mapping):
        return [{}], [check(RunConfig, values, sources=sources)]
    with sources.blamed("training"):
        found = settings(TrainingSpec, training)
    runs = [check(RunConfig, values | {"training": whole}, sources=sources) for _, whole in found]
    return [differing for differing, _ in found], runs


def run_groups(
    source: str | None, options: Mapping[str, Any], assignments: Iterable[str] = ()
) -> list[list[Member]]:
    """The runs that a source stands for with these options, each with a source for `describe_run`.

    Runs of one list share a report. Raises UserError.
    """
    return members_of(source, _model_of(options, assignments), lambda name: _read_run(split_member(name)[0]))


def run_description(source: str) -> str:
    """The description of a configuration, also of one that stands for several runs. Raises UserError."""
    return str(_read_run(source).values.get("description", ""))


def is_configuration(source: str) -> bool:
    """Whether a text names a configuration: one that comes with abench, a YAML file or a report."""
    base, _ = split_member(source)
    if base in config_names("runs") or provenance_file(base) is not None:
        return True
    return is_model_file(base) and Path(base).is_file()


def has_small_runs(source: str) -> bool:
    """Whether a configuration also runs small on other models, or names configurations. Raises UserError."""
    return not {SMALL, RUNS}.isdisjoint(_read_run(source).values)


def _model_of(options: Mapping[str, Any], assignments: Iterable[str]) -> str | None:
    """The model that options or assignments set; None if they set none."""
    found = options.get("model")
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        found = value.strip() if key.strip() == "model" else found
    return None if found is None else model_named(str(found)) or str(found)


def _one_run(source: str | None, model: str | None) -> Document:
    if source is None:
        return shipped("runs", "default")
    base, label = split_member(source)
    if label is not None and Path(source).exists():
        base, label = source, None
    return without_members(_read_run(base), label, model)


def _read_run(source: str) -> Document:
    path, names = Path(source), config_names("runs")
    if source not in names and (recorded := provenance_file(source)) is not None:
        return recorded_run(recorded)
    if path.suffix in {".yaml", ".yml"} or (path.exists() and not (source in names and path.is_dir())):
        return yamlfile.read_mapping(path)
    if source not in names:
        raise UserError(
            f"{short(source)} is neither a file nor a run that comes with abench{did_you_mean(source, names)}"
        )
    return shipped("runs", source)


def _assigned(where: str, key: str, value: Any, below: Sequence[Document]) -> Document:
    """A document that holds one value at a key path such as `training.tokens`."""
    steps = key.split(".")
    if len(steps) > _MOST_STEPS or not all(steps):
        raise UserError(f"{where}: {short(key)} is not a key path such as training.learning_rate")
    tree = Sources(below).values
    for step in steps[:-1]:
        child = tree.get(step, {})
        if not isinstance(child, Mapping):
            raise UserError(f"{where}: {short(key)} cannot be set: {short(step)} holds a value, not keys")
        tree = dict(child)
    for step in reversed(steps):
        value = {step: value}
    return Document(where, value, says=tuple(steps))


def _preset_of(sources: Sources, plugins: Sequence[Path]) -> list[Document]:
    """The training preset of the run, or else of its model; none for a model not known by name."""
    merged = sources.values
    if merged.get("preset") is not None:
        with sources.blamed("preset"):
            return [shipped("presets", str(merged["preset"]))]
    model = merged.get("model", RunConfig.model_fields["model"].default)
    known = model if isinstance(model, str) and is_model_file(model) else model_named(str(model))
    if known is not None:
        return [shipped("presets", model_config(known).preset)]
    with sources.blamed("model"):
        added = added_model(str(model), plugins)
    return [] if added is None else [shipped("presets", added[1].preset)]
