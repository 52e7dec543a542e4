"""What `abench run --dry-run` prints about the cost of a run; every line fits into 80 columns."""

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from abench.cli.text import columns, count
from abench.sites import kind_of, layer_of

if TYPE_CHECKING:
    from abench.pricing.price import Part, Price
    from abench.runs.plan import Plan

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_MOST_SITES = 4
"""With more sites, the rows of all sites are added up by task."""


def price_text(plan: "Plan", price: "Price", results: Path, device: str) -> str:
    """The price of what remains of a plan: tables of work, disk and memory, and what does not fit."""
    from abench.pricing.space import shortages, size, space_of

    if not price.parts:
        return "Everything is in the results folder: nothing is computed."
    space = space_of(plan, price)
    lines = [_work_table(plan, price), ""]
    lines += [fill(sentence, 80) for sentence in _sentences(plan, price)]
    disk = {**space.disk, **space.model_disk}
    lines += ["", columns([[name, size(n)] for name, n in disk.items()], ["disk", "size"])]
    for title, parts in (("memory while training", space.training), ("memory while scoring", space.scoring)):
        if parts:
            rows = [[name, size(n)] for name, n in parts.items()]
            lines += ["", columns([*rows, ["total at one site", size(sum(parts.values()))]], [title, "size"])]
    if device.startswith("cuda"):
        lines.append(
            fill(f"The memory is that of {device}; main memory holds the model while it is opened.", 80)
        )
    lines += [fill(sentence, 80) for sentence in shortages(space, results, device, plan)]
    return "\n".join(lines)


def _work_table(plan: "Plan", price: "Price") -> str:
    sites = list(dict.fromkeys(part.site for part in price.parts))
    merged = len(sites) > _MOST_SITES
    rows: list[list[str]] = []
    for title, parts in _rows(price, merged=merged):
        rows.append(_row(title, parts, timed=price.rates is not None))
    rows.append(_row(["total", ""], list(price.parts), timed=price.rates is not None))
    header = ["what", "where", "SAEs", "passes", "tokens", "FLOPs", "time"]
    return columns(rows, header if price.rates is not None else header[:-1])


def _rows(price: "Price", *, merged: bool) -> list[tuple[list[str], list["Part"]]]:
    if not merged:
        return [([part.what, _place(part.site)], [part]) for part in price.parts]
    found: dict[str, list[Part]] = {}
    for part in price.parts:
        found.setdefault(part.what, []).append(part)
    return [([what, count(len(parts), "site")], parts) for what, parts in found.items()]


def _row(title: list[str], parts: list["Part"], *, timed: bool) -> list[str]:
    stated = [part for part in parts if part.stated]
    total = title[0] == "total"
    if not stated:
        return [*title, str(sum(p.saes for p in parts)), *["not stated", "", ""], *([""] if timed else [])]
    tokens = sum(part.work.tokens for part in stated)
    passes = sum(part.work.passes for part in stated)
    row = [
        *title,
        "" if total else str(sum(part.saes for part in parts)),
        short(passes) if passes else "",
        short(tokens) if tokens else "",
        short(sum(part.operations for part in stated)),
    ]
    return [*row, duration(sum(part.seconds or 0.0 for part in stated))] if timed else row


def _place(site: str) -> str:
    """A site in few columns: `block 18`, `block 18 mlp_out`."""
    if "." not in site:
        return site
    kind = kind_of(site)
    return f"block {layer_of(site)}" if kind == "resid_post" else f"block {layer_of(site)} {kind}"


def _sentences(plan: "Plan", price: "Price") -> list[str]:
    found = []
    todo = price.todo
    if todo.cached_cells or todo.cached_saes:
        found.append(
            f"Not counted: {count(todo.cached_cells, 'cell')} and {count(max(0, todo.cached_saes), 'SAE')} "
            "that exist or are not needed."
        )
    if price.rates is not None:
        measured = "passes of the model, " if price.rates.passes else ""
        found.append(
            f"Time on {price.rates.device}, from {measured}training steps, matrix products and memory "
            "measured here."
        )
        if price.model is not None and not price.rates.passes:
            found.append(
                "The model's own passes were not measured, so its time is that of its matrix products at "
                "three quarters of their speed."
            )
    if price.model is not None and price.model.source == "estimate":
        found.append(
            "The sizes of the model's blocks are not known: they are estimated as 12 d_model² weights. "
            "Set block_parameters and vocabulary in the model's YAML file."
        )
    requests = sum(part.work.requests for part in price.parts)
    if requests:
        found.append(f"Judges receive {short(requests)} requests, whose time is not included.")
    if price.unstated:
        found.append(f"Not included, as they do not state their cost: {', '.join(price.unstated)}.")
    assumed = dict.fromkeys((part.what, part.assumes) for part in price.parts if part.assumes)
    found += [f"{what}: assumes that {assumes}." for what, assumes in assumed]
    return found


def short(number: float) -> str:
    """A number in at most five characters: `980`, `12.3k`, `4.1M`, `2.5e18`."""
    if number < 1000:
        return f"{number:.0f}"
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if unit <= number < 1000 * unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.2g}".replace("e+", "e")


def duration(seconds: float) -> str:
    """`12 s`, `3.5 min`, `7.2 h`, `12 days`."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.3g} min"
    return f"{seconds / _HOUR:.3g} h" if seconds < 3 * _DAY else f"{_three_digits(seconds / _DAY)} days"


def _three_digits(number: float) -> str:
    """About three digits, and never an exponent: `4,560`."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
