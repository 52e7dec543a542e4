"""`abench list models|variants|tasks|configs`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abench.cli.options import WORDS, json_option
from abench.cli.text import columns, echo_json

if TYPE_CHECKING:
    from abench.plugins import FoundTask

EXIT_SOME_FAILED = 3


@click.group("list")
def list_group() -> None:
    """List models, variants, tasks or configurations."""


@list_group.command()
@json_option
def models(as_json: bool) -> None:
    """List the models that abench knows by name. Local folders, GGUF files and hub ids work as well."""
    from abench.config import config_names, model_config

    rows = []
    for name in config_names("models"):
        config = model_config(name)
        rows.append(
            {
                "name": name,
                "aliases": _joined(config.aliases),
                "weights": config.source,
                "layers": _joined(config.layers),
                "k": _joined(config.k),
                "width": config.width_factor * config.d_model,
                "preset": config.preset,
                "gated": "yes" if config.gated else "no",
                "title": config.title,
            }
        )
    _show(rows, as_json)


@list_group.command()
@json_option
def variants(as_json: bool) -> None:
    """List the SAE variants with their regularisers and options.

    The activation function of a variant is the proximal operator of its regulariser.
    """
    from abench.variants import get_variant, variant_names

    rows = []
    for name in variant_names():
        variant = get_variant(name)
        rows.append(
            {
                "name": name,
                "title": variant.title,
                "signed": "yes" if variant.signed else "no",
                "regulariser": variant.regulariser,
                "options": _joined(type(variant).model_fields),
            }
        )
    _show(rows, as_json)


@list_group.command()
@json_option
@click.option(
    "--tasks-dir",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder with more task files. Can be repeated.",
)
@click.option("--check", is_flag=True, help="Run each task and check the rules that every task must satisfy.")
@click.option("--only", type=WORDS, default=(), help="List or check only these tasks, e.g. core,scr.")
def tasks(as_json: bool, tasks_dir: tuple[Path, ...], check: bool, only: tuple[str, ...]) -> int:
    """List the available tasks, and those that could not be imported.

    --check runs each task on small SAEs on the bundled model (about three minutes for all tasks). No score
    may change when latents are flipped in sign or reordered, or when the codes or the residual stream are
    rescaled. The split view must give the scores of the equivalent SAE with twice the latents, and no task
    may draw from a global random number generator.

    Exit status with --check: 0 all tasks satisfy the rules, 3 a task breaks a rule or cannot be imported.
    """
    from abench.errors import UserError, did_you_mean
    from abench.plugins import find_tasks

    found = find_tasks(tasks_dir)
    for name in only:
        if name not in found:
            raise UserError(f"there is no task '{name}'{did_you_mean(name, found)}")
    chosen = [each for name, each in found.items() if not only or name in only]
    if check:
        return _check(chosen, as_json)
    rows = [
        {
            "name": each.name,
            "version": each.task.version if each.task else "broken",
            "headline": _joined(m.name for m in each.task.metrics if m.headline) if each.task else "",
            "source": each.source,
            "summary": each.summary,
        }
        for each in chosen
    ]
    _show(rows, as_json)
    return 0


def _check(found: "Sequence[FoundTask]", as_json: bool) -> int:
    from abench.conformance.check import check_found

    rows, good = [], True
    for verdict in check_found(found):
        good = good and not verdict.problems
        state = "breaks a rule" if verdict.problems else "not run" if verdict.not_checked else "ok"
        rows.append({"name": verdict.task, "state": state, "problems": verdict.problems})
        reason = verdict.not_checked or f"{len(verdict.findings)} rules"
        if not as_json:
            click.echo("\n  ".join([f"{verdict.task}: {state} ({reason})", *verdict.problems]))
    if as_json:
        echo_json(rows)
    return 0 if good else EXIT_SOME_FAILED


@list_group.command()
@json_option
def configs(as_json: bool) -> None:
    """List the runs that come with abench; start one with `abench run NAME`."""
    from abench.config import config_names, load_run

    rows = [{"name": name, "description": load_run(name, {}).description} for name in config_names("runs")]
    _show(rows, as_json)


def _joined(values: Any) -> str:
    return ",".join(map(str, values))


def _show(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        echo_json(list(rows))
    else:
        click.echo(columns([list(row.values()) for row in rows], list(rows[0])))
