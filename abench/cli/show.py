"""`abench show` prints one cell or one latent; `abench explain` prints what a cell's key stands for."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abench.cli.options import json_option, latent_options, results_option
from abench.cli.text import columns, echo_json, sae_line
from abench.sanitize.printable import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from abench.results.finding import FoundCell
    from abench.results.store import Record, Store


@click.command()
@click.argument("cell")
@results_option
@json_option
@click.option("--latent", type=click.IntRange(0, 10**9), help="Show this latent of the SAE that CELL names.")
@click.option("--html", type=click.Path(path_type=Path), help="With --latent: also write an HTML page.")
@latent_options("With --latent")
def show(
    cell: str,
    results: Path,
    as_json: bool,
    latent: int | None,
    html: Path | None,
    tokens: int,
    plugins: tuple[Path, ...],
    model: str | None,
) -> None:
    """Print the scores of one cell, or why it has none. With --latent N, print one latent of an SAE.

    CELL is the beginning of the cell's key (from `abench status`), its file, or an SAE's label, as progress
    prints it, with the task: topk_k16_w2048_s0/core. With --latent it may also be the beginning of an SAE's
    key, its label or its folder. A latent is shown with its strongest contexts of each
    sign, its firing rate for each sign, the nearest and the most opposite latents, and the logits that it
    promotes and suppresses.
    """
    if latent is not None:
        from abench.cli.latent import show_latent
        from abench.variants import find_variants

        if plugins:
            find_variants(plugins)  # sae-lens then knows their SAEs
        show_latent(results, cell, latent, tokens=tokens, model=model, html=html, as_json=as_json)
        return
    for option, value in (("--html", html), ("--model", model)):
        if value is not None:
            raise click.UsageError(f"{option} needs --latent")
    store, found, record = _one_cell(results, cell)
    if as_json:
        echo_json(asdict(record))
        return
    from abench.report.paper import FAILING, SCR_TPP
    from abench.report.validity import invalid_metrics

    labels = record.labels
    click.echo(f"{labels['task']} {labels['task_version']} ({labels['view']}): {record.status}")
    click.echo(f"{sae_line(labels)}\n")
    if record.reason:
        click.echo(visible(record.reason))
    if record.traceback:
        click.echo(visible(record.traceback))
    if record.scores:
        described = {metric["name"]: metric["description"] for metric in record.metrics}
        click.echo(
            columns(
                [[n, f"{v:.6g}", described[n]] for n, v in record.scores.items()], ["metric", "value", ""]
            )
        )
    for metric, reason in invalid_metrics(asdict(record)).items():
        click.echo(visible(f"{metric} is not meaningful: {reason}"))
    if labels["task"] in FAILING:
        click.echo(f"\n{SCR_TPP}")
    if record.parts:
        from abench.report.parts import descriptions

        for text in descriptions(asdict(record), complete=True):
            click.echo(visible(f"\nrests on {text}"))
    if passes := record.provenance.get("forward_passes"):
        click.echo(f"\nforward passes: {_passes(passes)}")
    packages = ", ".join(f"{name} {version}" for name, version in record.provenance["packages"].items())
    click.echo(
        f"\n{record.provenance['seconds']} s on {record.provenance['device']}, {record.provenance['host']}, "
        f"{record.provenance['finished']}\n{packages}"
    )
    click.echo(f"key  {record.key}\nfile {found}\nSAE  {store.sae_of(record)}")


def _passes(used: "Mapping[str, Mapping[str, int]]") -> str:
    """The largest forward pass of each kind, in words."""
    sizes = []
    for kind, size in used.items():
        most = (
            f", the most that memory held is {size['most_tokens']:,} tokens" if "most_tokens" in size else ""
        )
        sizes.append(f"{kind} {size['rows']} × {size['tokens']} tokens{most}")
    return "; ".join(sizes)


@click.command()
@click.argument("cell")
@click.argument("other", required=False)
@results_option
@json_option
def explain(cell: str, other: str | None, results: Path, as_json: bool) -> None:
    """Print everything that a cell's key stands for, and how it differs from OTHER's.

    CELL may also be a configuration: a file, the name of a run that comes with abench, or a report's folder.
    Then every key of the run is printed with its value and where the value comes from.

    Without OTHER, the cell is compared with all cells in the results folder that have the same labels (model,
    site, variant, k, width, seed, task, task version, view). That answers "why was this computed again?".
    """
    from abench.config import is_configuration
    from abench.storage.keys import difference

    if other is None and is_configuration(cell) and not _is_cell(results, cell):
        _explain_run(cell, as_json=as_json)
        return
    store, found, record = _one_cell(results, cell)
    others = [_one_cell(results, other)[2]] if other else _namesakes(store, record)
    differences = {each.key: difference(record.spec, each.spec) for each in others}
    if as_json:
        echo_json({"key": record.key, "file": str(found), "spec": record.spec, "differences": differences})
        return
    import yaml

    click.echo(f"key {record.key}\n")
    click.echo(yaml.safe_dump(record.spec, sort_keys=False, allow_unicode=True).rstrip())
    for key, paths in differences.items():
        click.echo(f"\ncompared with {key[:12]}:")
        rows = [[path, left, right] for path, left, right in paths]
        click.echo(columns(rows, ["key path", record.key[:12], key[:12]]) if rows else "no difference")
    if not differences:
        click.echo("\nNo other cell in this folder has the same labels.")


_WIDEST = 60
"""Longer values are cut; run.yaml and `--json` have them whole."""


def _is_cell(results: Path, name: str) -> bool:
    from abench.config import is_model_file
    from abench.results.finding import find_cells
    from abench.results.store import Store

    if is_model_file(name):
        return False  # the store takes the path of any file for a cell's
    return Store.exists(results) and bool(find_cells(Store.open(results, create=False), name))


def _explain_run(source: str, *, as_json: bool) -> None:
    """Print the resolved configuration of each run that a source stands for."""
    from abench.cli.options import groups_of, plan_of
    from abench.runs.planner import RunRequest

    explained = []
    for request in (each for group in groups_of(RunRequest(source)) for each in group):
        plan = plan_of(request, fetch=False)
        if plan.origin is not None:
            explained.append((request.config or source, plan.origin))
    if as_json:
        echo_json(
            [{"run": name, "configuration": o.configuration, "places": o.places} for name, o in explained]
        )
        return
    for name, origin in explained:
        flat = {key: visible(value) for key, value in origin.flat().items()}
        flat = {key: f"{text[:_WIDEST]}…" if len(text) > _WIDEST else text for key, text in flat.items()}
        rows = [[key, text, visible(origin.places[key])] for key, text in flat.items()]
        click.echo(f"{name}\n{columns(rows, ['key', 'value', 'from'])}\n")


def _one_cell(results: Path, name: str) -> "tuple[Store, FoundCell, Record]":
    from abench.errors import UserError
    from abench.results.finding import find_cells
    from abench.results.store import Store

    store = Store.open(results, create=False)
    found = find_cells(store, name)
    if not found:
        raise UserError(f"no cell in {results} has the key or file '{name}'; `abench status` lists the keys")
    if len(found) > 1:
        raise UserError(
            f"'{name}' matches {len(found)} cells; give more of the key, or the task after a slash: "
            f"{', '.join(each.label for each in found[:4])}"
        )
    record = found[0].record()
    if record is None:
        raise UserError(f"{found[0].store.damaged[-1]} when the run is started again")
    return store, found[0], record


def _namesakes(store: "Store", record: "Record") -> "list[Record]":
    same = [other for _, other in store.all_records() if other.labels == record.labels]
    return [other for other in same if other.key != record.key]
