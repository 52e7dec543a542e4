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
    """The models abench knows by name. Local folders and hub ids work too."""
    from abench.config import config_names, model_config

    rows = []
    for name in config_names("models"):
        config = model_config(name)
        rows.append(
            {
                "name": name,
                "weights": config.weights,
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
    """The SAE variants, with the regulariser whose proximal operator is their activation."""
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
    "--tasks-dir", multiple=True, type=click.Path(path_type=Path), help="A folder with further task files."
)
@click.option("--check", is_flag=True, help="Run each task and try the rules every task has to keep to.")
@click.option("--only", type=WORDS, default=(), help="Names of tasks to show or check.")
def tasks(as_json: bool, tasks_dir: tuple[Path, ...], check: bool, only: tuple[str, ...]) -> int:
    """The tasks that were found, and the ones that could not be imported.

    --check runs them on small SAEs on the bundled model, three minutes for all: no score may change when
    latents are flipped in sign or reordered, or when codes or the residual stream are in other units, the
    split view has to be that of the wide SAE, and no global random number may be drawn. Exit status 3 if a
    task breaks a rule or cannot be imported.
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
    from abench.conformance import check_found

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
    """The runs that come with abench: `abench run NAME`."""
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
