"""From the description of a run to its plan: only here names become models, variants and tasks."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from abench.config import Described, ModelConfig, TrainingSpec, describe_run
from abench.config.sources import Sources
from abench.errors import UserError, did_you_mean, short
from abench.lm.catalogue import fetched_commit, find_model, local_commit
from abench.plugins import FoundTask, find_tasks, get_task
from abench.runs.given_saes import Given, fitting, jobs_of, read_given
from abench.runs.inputs import TEXT, inputs_of, missing_inputs
from abench.runs.origin import origin_of
from abench.runs.plan import Plan, check_sizes, make_plan
from abench.runs.plan_memory import check_memory
from abench.storage.keys import canonical_json
from abench.variants import Variant
from abench.variants.registry import variant_settings, variants_for

if TYPE_CHECKING:
    from abench.runs.opened_model import OpenedModel

Named = TypeVar("Named")
Say = Callable[[str], None]


@dataclass(frozen=True)
class RunRequest:
    """A run as its user describes it. Without arguments, the run `default`."""

    config: str | None = None
    """A YAML file, or the name of a run that ships with abench."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Key path -> value; overrides the configuration. None counts as not given."""
    assignments: tuple[str, ...] = ()
    """`key=value` texts; override the options."""
    plugins: tuple[Path, ...] = ()
    """Folders with files that define further tasks, variants, judges and models."""
    spelling: Mapping[str, str] = field(default_factory=dict)
    """Key path -> its name for the user in messages, e.g. `--k`."""


def plan_run(
    request: RunRequest,
    *,
    fetch: bool,
    say: Say,
    opened: "OpenedModel | None" = None,
    in_memory: Given | None = None,
    here: bool = True,
) -> Plan:
    """The plan of a run. Raises UserError if the description is invalid.

    With `fetch`, the model's weights are located first and downloaded from the hub if needed. Without it, the
    plan has no final keys if the weights are not on this machine. `say` receives a sentence for everything
    that has no effect: options of tasks and variants that are not in the run, tasks that cannot be imported,
    and files that do not exist. `opened` is a model that is open already, in place of the one that the
    description names, and `in_memory` holds the SAEs that its `saes` names. `here` states whether this
    machine computes the run, which must then fit into its memory.
    """
    described, given = _with_saes(request, in_memory, say)
    config, sources = described.config, described.sources
    with sources.blamed("model"):
        name, model = (opened.name, opened.config) if opened else find_model(config.model, request.plugins)
    check_sizes(config, model, sources)
    if config.saes:
        with sources.blamed("saes"):
            given = fitting(given, config, model)
    if request.plugins:
        from abench.judges.registry import use_judges_in

        use_judges_in(request.plugins)
    found = find_tasks(request.plugins)
    names = _task_names(config.tasks or model.tasks, model, found, say)
    variants_found = variants_for((*config.variants, *config.variant_options), request.plugins)
    _check_names("variant_options", config.variant_options, variants_found, sources)
    _check_names("task_options", config.task_options, found, sources)

    def task_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return {name: get_task(name, options, found)}

    def variants_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return variant_settings(name, options, variants_found)

    tasks = _each_with("task", names, config.task_options, sources, task_of, say)
    variants = _each_with("variant", config.variants, config.variant_options, sources, variants_of, say)

    declared = [metric.name for task in tasks.values() for metric in task.metrics]
    _check_names("metrics", config.metrics or (), declared, sources)
    trainings = _named_apart(described.trainings, variants.values())
    if fetch and here:
        streams = Counter(canonical_json(training.of_the_stream()) for _, training in trainings)
        check_memory(config, model, len(variants) * max(streams.values()))
    if opened:
        commit: str | None = opened.commit
    else:
        commit = (fetched_commit if fetch else local_commit)(model, config.context)
    data = config.data or model.data
    for sentence in missing_inputs(data, tasks):
        say(sentence)
    hashes = inputs_of(data, tasks)
    plan = make_plan(
        config,
        name,
        model,
        variants,
        tasks,
        commit=commit,
        inputs=hashes,
        trainings=trainings,
        given=jobs_of(given, config, data, hashes.get(TEXT)),
    )
    return replace(plan, refused=given.refused, origin=origin_of(request, described, plan))


def _with_saes(request: RunRequest, in_memory: Given | None, say: Say) -> tuple[Described, Given]:
    """The description and the SAEs that it names; the description takes from them what it leaves open."""
    described = _described(request, request.options)
    if not described.config.saes or in_memory is not None:
        return described, in_memory or Given()
    with described.sources.blamed("saes"):
        given = read_given(described.config.saes)
    stated = _stated(described, given, say)
    return (_described(request, {**request.options, **stated}) if stated else described), given


def _described(request: RunRequest, options: Mapping[str, Any]) -> Described:
    return describe_run(
        request.config, options, request.assignments, named=request.spelling, plugins=request.plugins
    )


def _stated(described: Described, given: Given, say: Say) -> dict[str, Any]:
    """The model and the context that the SAEs state, unless the run sets its own."""
    stated: dict[str, Any] = {}
    if described.sources.asked_place(("model",)) is None:
        with described.sources.blamed("saes"):
            stated["model"] = given.model()
    if described.config.context is None and not described.config.variants:
        stated["context"] = given.context()
        if len(given.contexts()) > 1:
            sizes = " and ".join(map(str, given.contexts()))
            say(
                f"the SAEs state contexts of {sizes} tokens, so the model's is used; set another with --set "
                "context=N"
            )
    return {key: value for key, value in stated.items() if value is not None}


def _named_apart(
    trainings: Sequence[tuple[dict[str, Any], TrainingSpec]], variants: Iterable[Variant]
) -> list[tuple[dict[str, Any], TrainingSpec]]:
    """The trainings; what differs is named with `training.` if a variant has an option of the same name."""
    options = {option for variant in variants for option in type(variant).model_fields}
    return [
        ({f"training.{k}" if k in options else k: value for k, value in differing.items()}, training)
        for differing, training in trainings
    ]


def _each_with(
    kind: str,
    names: Iterable[str],
    options: Mapping[str, Mapping[str, Any]],
    sources: Sources,
    get: Callable[[str, Mapping[str, Any]], Mapping[str, Named]],
    say: Say,
) -> dict[str, Named]:
    """The run's tasks or variants with their options, by label: `get` returns those that a name stands for.

    Options of other tasks or variants are checked, too. If the run itself (not its preset) sets them, this is
    reported, because they have no effect.
    """
    chosen: dict[str, Named] = {}
    names = tuple(names)
    for name in names:
        with sources.blamed(*((f"{kind}_options", name) if options.get(name) else (f"{kind}s",))):
            chosen |= get(name, options.get(name, {}))
    for name in (each for each in options if each not in names):
        with sources.blamed(f"{kind}_options", name):
            get(name, options[name])
        place = sources.asked_place((f"{kind}_options", name))
        if place is not None:
            say(f"{place}: {kind}_options.{name} has no effect because the run has no {kind} {name}")
    return chosen


def _task_names(
    requested: tuple[str, ...], model: ModelConfig, found: Mapping[str, FoundTask], say: Say
) -> tuple[str, ...]:
    """The requested tasks; `all` stands for those that can be imported and support this kind of model."""
    if requested != ("all",):
        return requested
    for each in found.values():
        if each.value is None:
            say(f"task '{each.name}' ({each.source}) is skipped: it {each.refusal}")
    tasks = {n: each.value for n, each in found.items() if each.value is not None}
    return tuple(n for n, task in tasks.items() if model.kind in task.kinds and task.in_all)


def _check_names(key: str, given: Iterable[str], known: Iterable[str], sources: Sources) -> None:
    """Raise UserError, with similar names, for a name that does not exist."""
    for name in given:
        if name not in known:
            place = sources.place((key, name))
            where = place if sources.subject((key,)) == place else f"{place}: {key}"
            raise UserError(f"{where}: there is no {short(name)}{did_you_mean(name, known)}")
