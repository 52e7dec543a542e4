"""`abench list models|variants|tasks|configs`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from abench.cli.options import json_option
from abench.cli.text import columns, echo_json


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
def tasks(as_json: bool, tasks_dir: tuple[Path, ...]) -> None:
    """The tasks that were found, and the ones that could not be imported."""
    from abench.plugins import find_tasks

    rows = [
        {
            "name": each.name,
            "version": each.task.version if each.task else "broken",
            "headline": _joined(m.name for m in each.task.metrics if m.headline) if each.task else "",
            "source": each.source,
            "summary": each.summary,
        }
        for each in find_tasks(tasks_dir).values()
    ]
    _show(rows, as_json)


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
