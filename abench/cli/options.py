"""The options that describe a run, shared by run, status and report, and the plan they make."""

import math
from collections.abc import Callable
from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from abench.errors import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from abench.config import ModelConfig
    from abench.config.sources import Sources
    from abench.plan import Plan
    from abench.plugins import FoundTask

Command = Callable[..., Any]
Named = TypeVar("Named")


class _Seconds(click.FloatRange):
    """A time of at most some days; click's own range lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return seconds


SEED = click.IntRange(0, 2**32 - 1)
SECONDS = _Seconds(min=0, max=1_000_000)


class _List(click.ParamType[Any]):
    """Comma-separated words or whole numbers."""

    def __init__(self, of: type, name: str) -> None:
        self.of, self.name = of, name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.of(each.strip()) for each in value.split(",") if each.strip())
        except ValueError:
            self.fail(f"{short(value)} is not a list of whole numbers, such as 4,8", param, ctx)


WORDS, NUMBERS = _List(str, "names"), _List(int, "numbers")

_DESCRIBE: dict[str, Command] = {
    "model": click.option("--model", help="A name from `abench list models`, a local folder or a hub id."),
    "variants": click.option(
        "--variants", type=WORDS, help="Such as abstopk,topk; see `abench list variants`."
    ),
    "k": click.option("--k", type=NUMBERS, help="Active latents per token, such as 8,16."),
    "layers": click.option(
        "--layer", "layers", type=NUMBERS, help="Blocks, counted from 0, such as 2 or 18,20."
    ),
    "width": click.option("--width", type=NUMBERS, help="Latents an SAE, such as 2048 or 1024,2048."),
    "seeds": click.option("--seeds", type=NUMBERS, help="Seeds of the initial weights, such as 0,1,2."),
    "tasks": click.option(
        "--tasks", type=WORDS, help="Task names, or `all` (but steering); see `abench list tasks`."
    ),
    "metrics": click.option(
        "--metrics", type=WORDS, help="Metrics in the table, instead of the tasks' headlines."
    ),
    "training.tokens": click.option("--tokens", type=int, help="Activations each SAE is trained on."),
    "preset": click.option("--preset", help="Training preset: tiny, paper-text or paper-code."),
    "evaluation.limit": click.option(
        "--limit", type=int, help="Cut evaluation data to this many items, to try out."
    ),
    "name": click.option("--name", help="Name of the report folder."),
}
"""Options that stand for one key of the run's configuration each, by that key."""

_OTHERS: tuple[Command, ...] = (
    click.argument("config", required=False),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other key of a run's configuration, such as training.learning_rate=1e-3.",
    ),
    click.option(
        "--tasks-dir",
        "tasks_dirs",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A folder with further task files.",
    ),
)

results_option = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Results folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def run_options(command: Command) -> Command:
    """Give a command CONFIG and the options that describe a run, as one mapping `asked`."""

    @wraps(command)
    def with_asked(**given: Any) -> Any:
        others = {name: given.pop(name) for name in ("config", "assignments", "tasks_dirs")}
        options = {key: given.pop(key.rpartition(".")[2]) for key in _DESCRIBE}
        return command(asked={"options": options, **others}, **given)

    decorators = [*_OTHERS, *_DESCRIBE.values()]
    decorated: Command = reduce(lambda wrapped, option: option(wrapped), reversed(decorators), with_asked)
    return decorated


def plan_of(asked: "Mapping[str, Any]", *, fetch: bool) -> "Plan":
    """The plan of the run that was asked for.

    With `fetch` the model's weights are looked for first, on the hub if need be. Without, weights that are
    not on this machine leave the plan's keys open. Named files that are not there are told on stderr.
    """
    from abench.catalogue import fetched_commit, find_model, local_commit
    from abench.config import describe_run
    from abench.inputs import inputs_of, missing_inputs
    from abench.plan import check_sizes, make_plan
    from abench.plan_memory import check_memory
    from abench.plugins import find_tasks, get_task
    from abench.variants import get_variant, variant_names

    described = describe_run(asked["config"], asked["options"], asked["assignments"], named=_spelt())
    config, sources = described.config, described.sources
    with sources.blamed("model"):
        name, model = find_model(config.model)
    check_sizes(config, model, sources)
    found = find_tasks(asked["tasks_dirs"])
    names = _task_names(config.tasks or model.tasks, model, found)
    _check_names("variant_options", config.variant_options, variant_names(), sources)
    _check_names("task_options", config.task_options, found, sources)

    tasks = _each_with("task", names, config.task_options, sources, lambda n, o: get_task(n, o, found))
    variants = _each_with("variant", config.variants, config.variant_options, sources, get_variant)

    declared = [metric.name for task in tasks.values() for metric in task.metrics]
    _check_names("metrics", config.metrics or (), declared, sources)
    if fetch:
        check_memory(config, model)
    commit = (fetched_commit if fetch else local_commit)(model, config.context)
    data = config.data or model.data
    for sentence in missing_inputs(data, tasks):
        click.echo(sentence, err=True)
    inputs = inputs_of(data, tasks)
    return make_plan(config, name, model, variants, tasks, commit=commit, inputs=inputs)


def _spelt() -> dict[str, str]:
    """What the user calls each key that has an option of its own."""
    context = click.get_current_context(silent=True)
    declared = {each.name: each.opts[0] for each in context.command.params} if context else {}
    return {key: declared.get(key.rpartition(".")[2], key) for key in _DESCRIBE}


def _each_with(
    kind: str,
    names: "Iterable[str]",
    options: "Mapping[str, Mapping[str, Any]]",
    sources: "Sources",
    get: "Callable[[str, Mapping[str, Any]], Named]",
) -> "dict[str, Named]":
    """The run's tasks or variants with their options, by name.

    Options of others are checked as well; those that this run gives itself, and not its preset, are reported
    on stderr, because they have no effect.
    """
    chosen = {}
    for name in names:
        with sources.blamed(*((f"{kind}_options", name) if options.get(name) else (f"{kind}s",))):
            chosen[name] = get(name, options.get(name, {}))
    for name in (each for each in options if each not in chosen):
        with sources.blamed(f"{kind}_options", name):
            get(name, options[name])
        place = sources.asked_place((f"{kind}_options", name))
        if place is not None:
            key = f"{kind}_options.{name}"
            click.echo(f"{place}: {key} has no effect: the run has no {kind} {name}", err=True)
    return chosen


def _task_names(
    asked: "tuple[str, ...]", model: "ModelConfig", found: "Mapping[str, FoundTask]"
) -> "tuple[str, ...]":
    """The tasks asked for; `all` are those that can be imported and are for this kind of model."""
    if asked != ("all",):
        return asked
    for each in found.values():
        if each.task is None:
            click.echo(f"task '{each.name}' ({each.source}) is left out: it {each.refusal}", err=True)
    tasks = {n: each.task for n, each in found.items() if each.task is not None}
    return tuple(n for n, task in tasks.items() if model.kind in task.kinds and task.in_all)


def _check_names(key: str, given: "Iterable[str]", known: "Iterable[str]", sources: "Sources") -> None:
    """A name that does not exist is a spelling mistake, not to be passed over."""
    from abench.errors import UserError, did_you_mean

    for name in given:
        if name not in known:
            place = sources.place((key, name))
            where = place if sources.subject((key,)) == place else f"{place}: {key}"
            raise UserError(f"{where}: there is no {short(name)}{did_you_mean(name, known)}")
