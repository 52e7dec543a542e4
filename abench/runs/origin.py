"""What describes a run completely: its resolved configuration, its folders of plug-ins, and its command."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.config import Described, RunConfig, TrainingSpec, provenance_file, read_provenance, split_member

if TYPE_CHECKING:
    from abench.runs.plan import Plan
    from abench.runs.planner import RunRequest


@dataclass(frozen=True)
class Origin:
    """The description of a run, from which the same plan can be made again."""

    configuration: Mapping[str, Any]
    """Every key with its value, as plain JSON; what the model or the preset decides is filled in."""
    command: str
    """The command line that describes the run."""
    plugins: tuple[str, ...] = ()
    """Folders of plug-ins."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Key path such as `training.tokens` -> the file and line, or the option, or what else decides it."""

    def flat(self) -> dict[str, str]:
        """Key path -> value on one line, as JSON and YAML write it."""
        return {key: json.dumps(value, ensure_ascii=False) for key, value in _flat(self.configuration)}


def origin_of(request: "RunRequest", described: Described, plan: "Plan") -> Origin:
    """The description of a plan that was made from a request."""
    configuration = resolved(described, plan)
    return Origin(
        configuration=configuration,
        command=_recorded_command(request) or command_of(request),
        plugins=tuple(map(str, request.plugins)),
        places={key: _place(described, key) for key, _ in _flat(configuration)},
    )


def resolved(described: Described, plan: "Plan") -> dict[str, Any]:
    """The configuration with the values that the model and the preset decide filled in, as plain JSON.

    A run of this configuration has the keys of the plan, as long as the model is the same.
    """
    config, model = described.config, plan.model
    whole: dict[str, Any] = config.model_dump(mode="json")
    whole["training"] = _training(described.trainings)
    whole |= {"context": model.context, "dtype": model.dtype, "data": plan.data.model_dump(mode="json")}
    whole["tasks"] = list(dict.fromkeys(cell.task.name for cell in plan.cells)) or whole["tasks"]
    if config.variants:
        whole["k"] = list(config.k or model.config.k)
        whole |= _sizes(config, plan)
    return whole


def _sizes(config: RunConfig, plan: "Plan") -> dict[str, Any]:
    """The blocks and widths of the SAEs to train."""
    from abench.runs.plan import sae_widths

    widths = {"width": list(sae_widths(config, plan.model.config)), "width_factor": None}
    if plan.model.config.synthetic is not None:
        return widths  # a synthetic model has no blocks
    return widths | {"layers": list(plan.model.config.numbered(config.layers))}


def _training(trainings: Sequence[tuple[Mapping[str, Any], TrainingSpec]]) -> dict[str, Any]:
    """The options of all trainings; a list of values for each option in which they differ."""
    dumped = [training.model_dump(mode="json") for _, training in trainings]
    differing = trainings[0][0]
    return {
        name: _distinct([each[name] for each in dumped]) if name in differing else value
        for name, value in dumped[0].items()
    }


def _distinct(values: Sequence[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if value not in values[:place]]


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(key path, value) pairs of everything that is not a mapping with keys."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _place(described: Described, path: str) -> str:
    """Where a value comes from."""
    keys = tuple(path.split("."))
    for document in reversed(described.sources.documents):
        if (place := document.place(keys)) is not None:
            return place
    return "the model" if keys[0] in _OF_MODEL else "default"


_OF_MODEL = frozenset({"layers", "k", "width", "tasks", "context", "dtype", "data"})
"""Keys that the model decides if nothing sets them."""


def _recorded_command(request: "RunRequest") -> str | None:
    """The command of the run that a request repeats without a change; None for any other request."""
    if request.config is None or request.assignments:
        return None
    if any(value is not None for value in request.options.values()):
        return None
    file = provenance_file(split_member(request.config)[0])
    return None if file is None else str(read_provenance(file).get("command") or "") or None


def command_of(request: "RunRequest") -> str:
    """The command that describes the run, as one line for a shell."""
    return shlex.join(["abench", "run", *_arguments(request)])


def _arguments(request: "RunRequest") -> Iterator[str]:
    if request.config is not None:
        # An entry of `each` shares its report with the others, so the command is that of all.
        yield split_member(request.config)[0]
    for key, value in request.options.items():
        if value is None:
            continue
        if name := request.spelling.get(key):
            yield from (name, _plain(value))
        else:
            yield from ("--set", f"{key}={json.dumps(value, default=str, ensure_ascii=False)}")
    for assignment in request.assignments:
        yield from ("--set", assignment)
    for folder in request.plugins:
        yield from ("--plugins", str(Path(folder)))


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
