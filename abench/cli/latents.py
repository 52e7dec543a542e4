"""`abench latents`: the latents of an SAE that are worth a look."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abench.cli.opened_sae import OpenedSAE, open_sae
from abench.cli.options import json_option, latent_options, results_option
from abench.cli.text import columns, echo_json, sae_line
from abench.errors import UserError
from abench.latents.rankings import NO_WORDS, RANKINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from abench.latents.latent_card import LatentCard
    from abench.latents.ranked import RankedLatent
    from abench.latents.survey import Survey

_WORDS_OF = "tinyworld"
"""The source of text whose words have known concepts."""

_ORDERS = " ".join(f"{name}: {ranking.definition}." for name, ranking in RANKINGS.items())


@click.command()
@click.argument("sae")
@results_option
@json_option
@click.option(
    "--by",
    type=click.Choice(list(RANKINGS)),
    help=f"The order. {_ORDERS} Default: two-sided, or rate if no latent fires with both signs.",
)
@click.option(
    "--top", type=click.IntRange(1, 1000), default=20, show_default=True, help="Number of latents to list."
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write an HTML page of the list, and the card of each latent in a folder next to it.",
)
@latent_options()
def latents(
    sae: str,
    results: Path,
    as_json: bool,
    by: str | None,
    top: int,
    html: Path | None,
    tokens: int,
    plugins: tuple[Path, ...],
    model: str | None,
) -> None:
    """List the latents of an SAE that are worth a look, ranked.

    SAE is what `abench show SAE --latent N` takes: the beginning of the key of an SAE or of one of its cells,
    the SAE's label, or its folder. `abench show` prints the card of a listed latent.

    For each latent the list has its firing rate for each sign, the token on which each sign is strongest, the
    latent with the most opposite decoder row, and the cosine between encoder direction and decoder row. For
    an SAE of the tiny world it also has the concept or pole that each sign follows, with the F1 score.
    """
    from abench.latents.ranked import first_latents
    from abench.latents.rankings import usual_ranking
    from abench.variants import find_variants

    if plugins:
        find_variants(plugins)  # sae-lens then knows their SAEs
    opened = open_sae(results, sae, model)
    if by is not None and RANKINGS[by].of_words and opened.data.source != _WORDS_OF:
        raise UserError(NO_WORDS)  # before the text is read
    survey, rows = _survey(opened, tokens)
    by = by or usual_ranking(survey)
    found = first_latents(survey, RANKINGS[by], top)
    cards = {} if html is None else _write(html, opened, rows, by, survey, found)
    if as_json:
        places = {latent: str(html.parent / file) for latent, file in cards.items()} if html else {}
        listed = [{**_plain(each), "card": places.get(each.latent)} for each in found]
        echo_json({"sae_key": opened.record.key, "labels": opened.record.labels} | _about(survey, by, listed))
        return
    _echo(opened, survey, by, found)
    if found:
        folder = "" if results == Path("results") else f" --results {shlex.quote(str(results))}"
        command = f"abench show {shlex.quote(sae)} --latent {found[0].latent}{folder}"
        click.echo(f"\n{command} prints the card of a latent")
    click.echo(f"\nSAE  {opened.place}" + (f"\npage {html}" if html is not None else ""))


def _survey(opened: OpenedSAE, tokens: int) -> "tuple[Survey, Tensor]":
    """The survey of an SAE, and the rows of tokens that it read."""
    from abench.latents.latent_card import held_out_rows
    from abench.latents.survey import survey
    from abench.progress import for_stderr
    from abench.tinyworld.lexicon import wide_labels

    rows = held_out_rows(opened.lm, opened.data, opened.context, tokens)
    known = wide_labels() if opened.data.source == _WORDS_OF else None
    for_stderr().say(f"reading {rows.numel():,} tokens of held-out text")
    return survey(opened.lm, opened.sae, rows, site=opened.site, known=known), rows


def _about(survey: "Survey", by: str, listed: list[dict[str, Any]]) -> dict[str, Any]:
    from abench.latents.survey import LEAST_FIRINGS

    return {
        "by": by,
        "definition": RANKINGS[by].definition,
        "tokens": survey.tokens,
        "width": len(survey.counted),
        "least_firings": LEAST_FIRINGS,
        "counted": int(survey.counted.sum()),
        "latents": listed,
    }


def _plain(latent: "RankedLatent") -> dict[str, Any]:
    from abench.tinyworld.lexicon import axis_of

    plain = latent.plain()
    if latent.follows is None:
        return plain
    up, down = (None if side is None else side.label for side in latent.follows)
    return {**plain, "axis": axis_of((up, down))}


def _echo(opened: OpenedSAE, survey: "Survey", by: str, found: "Sequence[RankedLatent]") -> None:
    from abench.report.latent_list import headings, row, sentence

    click.echo(sae_line(opened.record.labels))
    click.echo(f"{sentence(_about(survey, by, []))}\n")
    if not found:
        click.echo("no latent has a place in this ranking")
        return
    click.echo(columns([row(each) for each in found], headings(found[0])))


def _write(
    html: Path, opened: OpenedSAE, rows: "Tensor", by: str, survey: "Survey", found: "Sequence[RankedLatent]"
) -> dict[int, str]:
    """Write the page and the cards; the file of each card, relative to the page's folder."""
    from abench.latents.latent_card import latent_cards
    from abench.progress import for_stderr
    from abench.report.latent_list import latent_list
    from abench.report.latent_page import latent_page
    from abench.storage.files import write_whole

    partners = [each.opposite for each in found if RANKINGS[by].pairs and each.opposite is not None]
    shown = list(dict.fromkeys([*(each.latent for each in found), *partners]))
    title, folder = sae_line(opened.record.labels), f"{html.stem}-latents"
    (html.parent / folder).mkdir(parents=True, exist_ok=True)  # fails before the search, if it does
    for_stderr().say(f"searching the contexts of {len(shown)} latents")
    made: Sequence[LatentCard] = latent_cards(opened.lm, opened.sae, shown, site=opened.site, rows=rows)
    files = {latent: f"{folder}/latent-{latent}.html" for latent in shown}
    for latent, card in zip(shown, made, strict=True):
        page = latent_page(f"Latent {latent} of {title}", card, back=f"../{html.name}")
        write_whole(html.parent / files[latent], page)
    write_whole(html, latent_list(title, _about(survey, by, []), found, files))
    return files
