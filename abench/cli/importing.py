"""`abench import PATH_OR_ID` prints what abench understands of an SAE that it did not train."""

from typing import TYPE_CHECKING, Any

import click

from abench.cli.options import json_option
from abench.cli.text import columns, echo_json
from abench.sanitize.printable import visible

if TYPE_CHECKING:
    from abench.importing import ImportedSAE


@click.command("import")
@click.argument("sae")
@json_option
def import_command(sae: str, as_json: bool) -> None:
    """Print what abench understands of an SAE that it did not train.

    SAE is a folder or file of weights of sae-lens, dictionary_learning, sparsify, the repository of the
    AbsTopK paper or abench; a hub repository (owner/name, owner/name/folder); or release/sae_id of sae-lens's
    directory. Its files are read and checked as a run does it. Nothing is computed on a language model.
    """
    from abench.importing import read_sae

    imported = read_sae(sae)
    facts = _facts(imported)
    if as_json:
        echo_json(facts)
        return
    rows = [[name, _shown(value)] for name, value in facts.items() if name != "notes"]
    click.echo(columns(rows, ["", "understood"]))
    for note in imported.notes:
        click.echo(visible(f"\n{note}"))


def _facts(imported: "ImportedSAE") -> dict[str, Any]:
    """What is printed, by name. The SAE is loaded, because only its weights tell whether norms are folded."""
    from abench.latents.decoding import row_lengths

    return {
        "name": imported.name,
        "format": imported.format,
        "class": imported.sae_class,
        "d_in": imported.d_in,
        "width": imported.width,
        "k": imported.k,
        "l0": imported.l0,
        "site": imported.site,
        "model": imported.model,
        "context": imported.context,
        "prepends_bos": imported.prepends_bos,
        "normalisation": imported.normalisation or "none",
        "signed": imported.signed,
        "folded_norms": row_lengths(imported.load()) is None,
        "identity": imported.identity,
        "notes": list(imported.notes),
    }


def _shown(value: Any) -> str:
    if value is None:
        return "—"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
