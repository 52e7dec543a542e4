"""`abench export` writes results for other tools."""

from pathlib import Path

import click

from abench.cli.options import results_option
from abench.cli.text import count

FORMATS = ("csv", "saelens", "hf", "saebench")


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    required=True,
    help="csv: all scores as one table. saelens: SAEs as sae-lens folders. hf: the same as a folder for the "
    "hub, with a model card. saebench: result files of sae-bench.",
)
@results_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to write; by default export-FORMAT in the current folder. It is replaced only if it holds "
    "an earlier export and nothing else.",
)
@click.option("--licence", help="With hf: the licence's identifier on the hub, e.g. mit; by default unknown.")
@click.option(
    "--view",
    type=click.Choice(("native", "split")),
    default=None,
    help="With saebench: the view in which signed SAEs are exported; by default native.",
)
def export(
    names: tuple[str, ...], form: str, results: Path, out: Path | None, licence: str | None, view: str | None
) -> None:
    """Write SAEs and scores of a results folder in the formats of other tools.

    NAMES are names of reports, or SAEs: the beginning of the key of the SAE or of one of its cells, or the
    SAE's folder. Without NAMES, everything in the results folder is exported. Nothing is computed: what
    abench did not measure is left out, and this is reported.
    """
    from abench.errors import UserError
    from abench.exporting.chosen import choose
    from abench.exporting.folder import whole_folder
    from abench.exporting.write import write_export

    for option, value, needs in (("--licence", licence, "hf"), ("--view", view, "saebench")):
        if value is not None and form != needs:
            raise click.UsageError(f"{option} needs --format {needs}")
    out = out or Path(f"export-{form}")
    chosen = choose(results, names)
    if out.resolve().is_relative_to(results.resolve()):
        raise UserError(f"{out} is inside the results folder: choose another folder with --out")
    with whole_folder(out) as folder:
        written = write_export(chosen, folder, form, licence=licence, view=view or "native")
    for sentence in written.notes:
        click.echo(sentence, err=True)
    click.echo(f"{count(written.number, written.what)} written to {out}")
