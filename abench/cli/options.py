"""The options that describe a run, shared by run, status and report."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abench.errors import short

if TYPE_CHECKING:
    from abench.config import Member
    from abench.runs.plan import Plan
    from abench.runs.planner import RunRequest


Command = Callable[..., Any]


class _Seconds(click.FloatRange):
    """A finite number of seconds in a range; click's own range lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return seconds


SEED = click.IntRange(0, 2**32 - 1)
SECONDS = _Seconds(min=0, max=1_000_000)


def _number_or_name(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


class _List(click.ParamType[Any]):
    """Comma-separated words or whole numbers."""

    def __init__(self, of: Callable[[str], Any], name: str) -> None:
        self.of, self.name = of, name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.of(each.strip()) for each in value.split(",") if each.strip())
        except ValueError:
            self.fail(f"{short(value)} is not a list of whole numbers, e.g. 4,8", param, ctx)


class _Numbers(_List):
    """Comma-separated whole numbers and ranges: `0,2,5-9`."""

    def __init__(self) -> None:
        super().__init__(int, "numbers")

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, str):
            value = ",".join(self._spelt_out(each.strip(), param, ctx) for each in value.split(","))
        return super().convert(value, param, ctx)

    def _spelt_out(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """All numbers of a range, separated by commas; other text unchanged."""
        found = _RANGE.fullmatch(text)
        if found is None:
            return text
        first, last = int(found[1]), int(found[2])
        if not first <= last < first + _MOST_IN_RANGE:
            self.fail(f"{short(text)} is not a range of 1 to {_MOST_IN_RANGE} numbers, e.g. 0-4", param, ctx)
        return ",".join(map(str, range(first, last + 1)))


_RANGE = re.compile(r"(\d{1,10})-(\d{1,10})")
_MOST_IN_RANGE = 1000

WORDS, NUMBERS = _List(str, "names"), _Numbers()
BLOCKS = _List(_number_or_name, "blocks")

_DESCRIBE: dict[str, Command] = {
    "model": click.option(
        "--model", help="A name from `abench list models`, a local folder, a GGUF file or a hub id."
    ),
    "variants": click.option(
        "--variants", type=WORDS, help="SAE variants, e.g. abstopk,topk; see `abench list variants`."
    ),
    "saes": click.option(
        "--sae",
        "saes",
        type=WORDS,
        help="SAEs to score as they are, in place of --variants or in addition to them: folders, files or "
        "names on the hub, separated by commas; see `abench import`.",
    ),
    "sae_site": click.option(
        "--site",
        "sae_site",
        help="The site that the SAEs of --sae read, e.g. blocks.6.hook_resid_post; overrides what their "
        "files state.",
    ),
    "k": click.option("--k", type=NUMBERS, help="Active latents per token, e.g. 8,16."),
    "layers": click.option(
        "--layers",
        "--layer",
        "layers",
        type=BLOCKS,
        help="Blocks, counted from 0, or early, middle and late, e.g. 2 or early,20.",
    ),
    "sites": click.option(
        "--sites",
        type=WORDS,
        help="What SAEs read at each block: resid_post (the residual stream after it; the default), attn_out "
        "or mlp_out (what its attention or MLP adds to the residual stream), e.g. resid_post,attn_out.",
    ),
    "width": click.option("--width", type=NUMBERS, help="Latents per SAE, e.g. 2048 or 1024,2048."),
    "seeds": click.option("--seeds", type=NUMBERS, help="Seeds of the initial weights, e.g. 0,1,2 or 0-4."),
    "tasks": click.option(
        "--tasks",
        type=WORDS,
        help="Task names, or `all` (not safety_utility, bidirectionality, autointerp, two_way_steering, "
        "planted); see "
        "`abench list tasks`.",
    ),
    "metrics": click.option(
        "--metrics", type=WORDS, help="Metrics to show in the table instead of each task's headline metrics."
    ),
    "training.tokens": click.option("--tokens", type=int, help="Activations to train each SAE on."),
    "preset": click.option("--preset", help="Training preset: tiny, laptop, paper-text or paper-code."),
    "evaluation.limit": click.option(
        "--limit",
        type=int,
        help="Limit each evaluation data set to this many items, including the requests and questions of "
        "steering, whose strengths stay the same; for quick trials.",
    ),
    "name": click.option("--name", help="Name of the report folder."),
    "activation_cache": click.option(
        "--activation-cache",
        metavar="DIR[:SIZE]",
        help="Keep what the language model computes from the training text in a folder of at most SIZE GiB "
        "(default: 50), which sites, runs and hosts share; `temporary` shares it between the sites of this "
        "run only. Changes no number.",
    ),
}
"""The options that each set one key of the run's configuration, by that key."""

plugins_option = click.option(
    "--plugins",
    "--tasks-dir",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder whose .py files define tasks, variants and judges and whose .yaml files describe models. "
    "Can be repeated. --tasks-dir is its former name.",
)

_OTHERS: tuple[Command, ...] = (
    click.argument("config", required=False),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set any key of the run's configuration, e.g. training.learning_rate=1e-3. Can be repeated.",
    ),
    plugins_option,
)


def latent_options(condition: str = "") -> Callable[[Command], Command]:
    """`--tokens`, `--plugins` and `--model` of commands that look at latents; `condition` begins the help."""

    def text(words: str) -> str:
        return f"{condition}: {words}" if condition else words[0].upper() + words[1:]

    options = (
        click.option(
            "--tokens",
            type=click.IntRange(1, 10**9),
            default=65_536,
            show_default=True,
            help=text("held-out tokens to read."),
        ),
        plugins_option,
        click.option("--model", help=text("the new location of the SAE's model, if it has moved.")),
    )

    def with_options(command: Command) -> Command:
        decorated: Command = reduce(lambda wrapped, option: option(wrapped), reversed(options), command)
        return decorated

    return with_options


results_option = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Results folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def run_options(command: Command) -> Command:
    """Add CONFIG and the options that describe a run; passed on as one `RunRequest`."""

    @wraps(command)
    def with_request(**given: Any) -> Any:
        from abench.runs.planner import RunRequest

        others = {name: given.pop(name) for name in ("config", "assignments", "plugins")}
        if repeated := given.get("repeated"):
            if others["config"] is not None:
                raise click.UsageError("--from and CONFIG cannot be used together")
            others["config"] = str(repeated)
        given |= _of_report(others, given)
        options = {key: given.pop(key.rpartition(".")[2]) for key in _DESCRIBE}
        return command(request=RunRequest(options=options, spelling=_spelling(), **others), **given)

    decorators = [*_OTHERS, *_DESCRIBE.values()]
    decorated: Command = reduce(lambda wrapped, option: option(wrapped), reversed(decorators), with_request)
    return decorated


def report_source(config: str | None) -> Path | None:
    """The folder or the provenance.json of a report that CONFIG names; None for any other configuration.

    The name of a run that comes with abench means the run, also if there is a folder of this name.
    """
    from abench.config import config_names, provenance_file

    if config is None or config in config_names("runs"):
        return None
    return Path(config) if Path(config).is_dir() else provenance_file(config)


def _of_report(others: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The results folder of the report that CONFIG names, unless --results is given.

    Adds the folders of plug-ins that the report recorded to `others`.
    """
    from abench.config import provenance_file, read_provenance

    source = report_source(others["config"])
    file = None if source is None else provenance_file(str(source))
    if file is None:
        return {}
    recorded = map(Path, read_provenance(file).get("plugins") or ())
    others["plugins"] = tuple(dict.fromkeys((*others["plugins"], *recorded)))
    given_by = click.get_current_context().get_parameter_source("results")
    place = file.resolve().parent.parent
    if "results" not in given or given_by != click.core.ParameterSource.DEFAULT or place.name != "reports":
        return {}
    return {"results": place.parent}


def _spelling() -> dict[str, str]:
    """The option's name for each key that has an option of its own, e.g. `--k`; for messages."""
    declared = {each.name: each.opts[0] for each in click.get_current_context().command.params}
    return {key: declared.get(key.rpartition(".")[2], key) for key in _DESCRIBE}


def groups_of(request: "RunRequest") -> "list[list[RunRequest]]":
    """The runs that a description stands for; those of one list share a report (`each` and `runs`)."""
    from abench.config import run_groups
    from abench.errors import UserError

    groups = run_groups(request.config, request.options, request.assignments)
    if len(groups) > 1 and request.options.get("name") is not None:
        raise UserError(f"{request.config} writes {len(groups)} reports, so they cannot all have one --name")
    return [[_member_of(request, each) for each in group] for group in groups]


def check_groups(groups: Sequence[Sequence["RunRequest"]]) -> None:
    """Raise UserError before anything is computed if runs that share a report cannot share its tables."""
    from abench.runs.plan import check_apart
    from abench.runs.planner import plan_run

    for group in groups:
        if len(group) > 1:
            plans = {str(each.config): plan_run(each, fetch=False, say=lambda _: None) for each in group}
            check_apart(plans)


def _member_of(request: "RunRequest", member: "Member") -> "RunRequest":
    """The request for one of the runs that a request stands for."""
    from dataclasses import replace

    options = {**request.options, "model": None} if member.own_model else request.options
    return replace(request, config=member.source, options=options)


def plan_of(request: "RunRequest", *, fetch: bool, here: bool = True) -> "Plan":
    """The plan of a run; options that have no effect are reported on stderr."""
    from abench.runs.planner import plan_run

    return plan_run(request, fetch=fetch, say=partial(click.echo, err=True), here=here)
