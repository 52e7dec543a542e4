"""The output of `abench show SAE --latent N`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abench.cli.opened_sae import open_sae
from abench.cli.text import echo_json, sae_line

if TYPE_CHECKING:
    from abench.latents.excerpts import Excerpt
    from abench.latents.latent_card import LatentCard, Ranked
    from abench.results.store import SAERecord

_STEPS = {1: (223, 216, 208, 202), -1: (195, 153, 111, 39)}
"""Terminal background colours, from weak to strong: oranges for positive values, blues for negative ones."""
_MARKED_FROM = 0.1
"""Tokens are marked if their value is at least this share of the largest one."""


def show_latent(
    results: Path, name: str, latent: int, *, tokens: int, model: str | None, html: Path | None, as_json: bool
) -> None:
    """Print one latent; if `html` is given, also write an HTML page."""
    from abench.latents.latent_card import latent_card

    opened = open_sae(results, name, model)
    record = opened.record
    card = latent_card(
        opened.lm,
        opened.sae,
        latent,
        site=opened.site,
        data=opened.data,
        context_size=opened.context,
        tokens=tokens,
    )
    if html is not None:
        from abench.report.latent_page import latent_page
        from abench.storage.files import write_text

        write_text(html, latent_page(_title(record, latent), card))
    if as_json:
        echo_json({"sae_key": record.key, "labels": record.labels, "latent": latent, **card.plain()})
        return
    _echo(record, latent, card)
    click.echo(f"\nSAE  {opened.place}" + (f"\npage {html}" if html is not None else ""))


def _title(record: "SAERecord", latent: int) -> str:
    return f"Latent {latent} of {sae_line(record.labels)}"


def _echo(record: "SAERecord", latent: int, card: "LatentCard") -> None:
    # click removes colours if stdout is not a terminal, so plain marks are needed there.
    coloured = sys.stdout.isatty()
    click.echo(_title(record, latent))
    if card.contexts is None:
        click.echo(f"never fires on {card.tokens:,} tokens of held-out text")
    else:
        rates = (card.contexts.positive_rate, card.contexts.negative_rate)
        click.echo(
            f"fires positively on {rates[0]:.3%} and negatively on {rates[1]:.3%} of {card.tokens:,} tokens"
        )
        negative = "negative" if card.signed else "lowest pre-activations (no code is negative)"
        for heading, side in (("positive", card.contexts.positive), (negative, card.contexts.negative)):
            click.echo(f"\n{heading}")
            click.echo("\n".join(_lines(side, coloured=coloured)) or "  none")
        click.echo(f"\n{_legend(coloured=coloured)}")
    click.echo()
    for heading, ranked in (
        ("nearest latents", card.nearest),
        ("most opposite latents", card.opposite),
        ("logits it promotes", card.promoted),
        ("logits it suppresses", card.suppressed),
    ):
        click.echo(f"{heading:<22}{_ranked(ranked)}")


def _legend(*, coloured: bool) -> str:
    """How to read the contexts."""
    if coloured:
        signs = (("positive", 1), ("negative", -1))
        ends = (click.style(name, fg=16, bg=_STEPS[sign][2]) for name, sign in signs)
        return (
            f"{' and '.join(ends)} values, darker if stronger\n"
            "underlined: the strongest token of a context, whose value stands before it"
        )
    return (
        "[positive] and {negative} values from a tenth of the strongest one on\n"
        "[[doubled]]: the strongest token of a context, whose value stands before it"
    )


def _ranked(ranked: "Ranked") -> str:
    parts = (repr(thing) if isinstance(thing, str) else str(thing) for thing, _ in ranked)
    return ", ".join(f"{part} {value:+.3g}" for part, (_, value) in zip(parts, ranked, strict=True))


def _lines(side: "Sequence[Excerpt]", *, coloured: bool) -> list[str]:
    greatest = max((abs(value) for each in side for value in each.values), default=0.0) or 1.0
    mark: Callable[[str, float, bool], str] = _colour if coloured else _plain
    return [
        f"  {each.value:>+9.4g}  "
        + "".join(
            mark(_one_line(token), value / greatest, place == each.peak)
            for place, (token, value) in enumerate(zip(each.tokens, each.values, strict=True))
        )
        for each in side
    ]


def _one_line(token: str) -> str:
    """The token with line breaks as ↵ and control characters replaced, so that it cannot move the cursor."""
    return "".join(char if char.isprintable() else "↵" if char == "\n" else "�" for char in token)


def _colour(token: str, share: float, peak: bool) -> str:
    if abs(share) < _MARKED_FROM:
        return token
    steps = _STEPS[1 if share > 0 else -1]
    step = steps[min(len(steps) - 1, int(abs(share) * len(steps)))]
    return click.style(token, fg=16, bg=step, bold=peak, underline=peak)


def _plain(token: str, share: float, peak: bool) -> str:
    """`[word]` where the latent is positive, `{word}` where it is negative; doubled brackets at the peak."""
    if abs(share) < _MARKED_FROM and not peak:
        return token
    space, word = token[: len(token) - len(token.lstrip())], token.lstrip()
    before, after = ("[", "]") if share > 0 else ("{", "}")
    return f"{space}{before * (1 + peak)}{word}{after * (1 + peak)}"
