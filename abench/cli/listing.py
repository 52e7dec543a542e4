"""`abench list models|variants|tasks|judges|executors|configs`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from abench.cli.options import WORDS, json_option, plugins_option
from abench.cli.text import columns, echo_json

if TYPE_CHECKING:
    from abench.config.plugin_models import FoundModel
    from abench.conformance.check import CheckResult
    from abench.discovery import Found
    from abench.plugins import FoundTask
    from abench.variants.registry import FoundVariant

T = TypeVar("T")

EXIT_SOME_FAILED = 3


@click.group("list")
def list_group() -> None:
    """List models, variants, tasks, judges, executors or configurations."""


@list_group.command()
@json_option
@plugins_option
def models(as_json: bool, plugins: tuple[Path, ...]) -> None:
    """List the models that abench knows by name. Local folders, GGUF files and hub ids work as well.

    A file that does not describe a model is a row with the reason.
    """
    from abench.config.plugin_models import find_models

    _show([_model_row(each) for each in find_models(plugins).values()], as_json)


def _model_row(each: "FoundModel") -> dict[str, Any]:
    config = each.value
    row = dict.fromkeys(("name", "aliases", "weights", "layers", "k", "width", "preset", "gated"), "")
    if config is None:
        return {**row, "name": each.name, "weights": "broken", "title": each.summary, "source": each.source}
    return {
        "name": each.name,
        "aliases": _joined(config.aliases),
        "weights": config.source,
        "layers": _joined(config.layers),
        "k": _joined(config.k),
        "width": config.width_factor * config.d_model,
        "preset": config.preset,
        "gated": "yes" if config.gated else "no",
        "title": config.title,
        "source": each.source,
    }


@list_group.command()
@json_option
@plugins_option
@click.option(
    "--check", is_flag=True, help="Train each variant and check the rules that every variant must satisfy."
)
@click.option("--only", type=WORDS, default=(), help="List or check only these variants, e.g. topk,abstopk.")
def variants(as_json: bool, plugins: tuple[Path, ...], check: bool, only: tuple[str, ...]) -> int:
    """List the SAE variants with their regularisers and options, and those that could not be imported.

    The activation function of a variant is the proximal operator of its regulariser.

    --check trains a small SAE of each variant (about a minute for all variants). The SAE must be the same
    function after saving and loading, flips of sign and the order of latents must not change it, its L0 must
    be k, and the gradients of its training must be the derivatives of its loss.

    Exit status with --check: 0 all variants satisfy the rules, 3 a variant breaks a rule or cannot be
    imported.
    """
    from abench.variants import find_variants

    chosen = _chosen("variant", find_variants(plugins), only)
    if check:
        from abench.conformance.variants import check_variants

        return _show_check(check_variants(chosen), as_json)
    _show([_variant_row(each) for each in chosen], as_json)
    return 0


def _variant_row(each: "FoundVariant") -> dict[str, Any]:
    variant = each.value
    return {
        "name": each.name,
        "title": variant.title if variant else "broken",
        "signed": ("yes" if variant.signed else "no") if variant else "",
        "regulariser": variant.regulariser if variant else each.summary,
        "options": _joined(variant.model_fields) if variant else "",
        "source": each.source,
    }


def _chosen(kind: str, found: "Mapping[str, Found[T]]", only: Sequence[str]) -> "list[Found[T]]":
    """The rows to show. Raises UserError for a name in `only` that does not exist."""
    from abench.errors import UserError, did_you_mean

    for name in only:
        if name not in found:
            raise UserError(f"there is no {kind} '{name}'{did_you_mean(name, found)}")
    return [each for name, each in found.items() if not only or name in only]


@list_group.command()
@json_option
@plugins_option
def judges(as_json: bool, plugins: tuple[Path, ...]) -> None:
    """List the judges of replies and of latents, and those that could not be imported."""
    from abench.judges.registry import find_judges

    rows = [
        {**_stated(each), "judges": "" if each.value is None else getattr(each.value, "judges", "replies")}
        for each in find_judges(plugins).values()
    ]
    _show(rows, as_json)


def _stated(each: "Found[Any]") -> dict[str, Any]:
    state = "broken" if each.value is None else "ok"
    return {"name": each.name, "state": state, "source": each.source, "summary": each.summary}


@list_group.command()
@json_option
def executors(as_json: bool) -> None:
    """List the executors, which decide where a run is computed, and those that could not be imported."""
    from abench.executors.registry import find_executors

    _show([_stated(each) for each in find_executors().values()], as_json)


@list_group.command()
@json_option
@plugins_option
@click.option("--check", is_flag=True, help="Run each task and check the rules that every task must satisfy.")
@click.option("--only", type=WORDS, default=(), help="List or check only these tasks, e.g. core,scr.")
def tasks(as_json: bool, plugins: tuple[Path, ...], check: bool, only: tuple[str, ...]) -> int:
    """List the available tasks, and those that could not be imported.

    --check runs each task on small SAEs on the bundled model (about three minutes for all tasks). No score
    may change when latents are flipped in sign or reordered, or when the codes or the residual stream are
    rescaled. The split view must give the scores of the equivalent SAE with twice the latents, and no task
    may draw from a global random number generator.

    Exit status with --check: 0 all tasks satisfy the rules, 3 a task breaks a rule or cannot be imported.
    """
    from abench.plugins import find_tasks

    chosen = _chosen("task", find_tasks(plugins), only)
    if check:
        return _check(chosen, as_json)
    rows = [
        {
            "name": each.name,
            "version": each.value.version if each.value else "broken",
            "headline": _joined(m.name for m in each.value.metrics if m.headline) if each.value else "",
            "source": each.source,
            "summary": each.summary,
        }
        for each in chosen
    ]
    _show(rows, as_json)
    return 0


def _check(found: "Sequence[FoundTask]", as_json: bool) -> int:
    from abench.conformance.check import check_found

    return _show_check(check_found(found), as_json)


def _show_check(verdicts: "Iterable[CheckResult]", as_json: bool) -> int:
    """Show the verdicts as they come; returns the exit status."""
    rows, good = [], True
    for verdict in verdicts:
        good = good and not verdict.problems
        state = "breaks a rule" if verdict.problems else "not run" if verdict.not_checked else "ok"
        rows.append({"name": verdict.name, "state": state, "problems": verdict.problems})
        reason = verdict.not_checked or f"{len(verdict.findings)} rules"
        if not as_json:
            click.echo("\n  ".join([f"{verdict.name}: {state} ({reason})", *verdict.problems]))
    if as_json:
        echo_json(rows)
    return 0 if good else EXIT_SOME_FAILED


@list_group.command()
@json_option
@click.option("--model", help="Show the cost of each run on this model, e.g. tiny.")
def configs(as_json: bool, model: str | None) -> None:
    """List the runs that come with abench: what each gives and costs. Start one with `abench run NAME`.

    The cost is what an empty results folder takes: SAEs to train, cells to score, and operations (FLOPs).
    `abench run NAME --dry-run` states times on this machine. With --model, list those that reproduce a part
    of the paper, and what they cost on that model.
    """
    from abench.config import config_names, has_small_runs
    from abench.pricing.configs import price_of_config

    names = [name for name in config_names("runs") if model is None or has_small_runs(name)]
    _show([price_of_config(name, model).row() for name in names], as_json)


def _joined(values: Any) -> str:
    return ",".join(map(str, values))


def _show(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        echo_json(list(rows))
    else:
        click.echo(columns([list(row.values()) for row in rows], list(rows[0])))
