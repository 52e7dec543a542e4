"""The section on comparisons: its tables as text, its data, and what to know for reading them."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abench.report.cells import decimals_for, number
from abench.report.equal import AXES, TITLES, AtEqual, at_equal
from abench.report.frame import Record
from abench.report.fronts import FrontPoint, fronts_of
from abench.report.pairs import Comparison, at_equal_k
from abench.report.render import escaped, pipes
from abench.report.saes import absent_last
from abench.report.style import NO_STYLES, Styles, row_title, variant_style

if TYPE_CHECKING:
    import pandas as pd

DATA = (
    *("model", "site", "at", "place", "variant", "view", "width", "baseline", "task", "task_version"),
    *("metric", "higher_is_better", "baseline_mean", "mean", "difference", "low", "high"),
    *("over", "seeds", "items", "p", "smallest_p", "exact", "p_holm", "wins", "ties", "losses", "verdict"),
)
"""The columns of comparisons.csv."""
Names = Mapping[tuple[str, str, str], str]
"""(Task, version, metric) -> its title with task and arrow."""


@dataclass(frozen=True)
class TextTable:
    """A table of texts with its heading and notes."""

    heading: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparisons:
    """Everything that the section shows."""

    baseline: str
    at_k: list[Comparison]
    problems: list[str]
    equal: dict[str, AtEqual]
    """What is equal (`l0`, `loss_recovered`) -> the comparisons; without what no cell measures."""
    front: list[FrontPoint]

    def all(self) -> list[Comparison]:
        """The comparisons of all tables."""
        return [*self.at_k, *(each for equal in self.equal.values() for each in equal.comparisons)]


def compare(records: Sequence[Record], baseline: str, styles: Styles = NO_STYLES) -> Comparisons:
    """All comparisons of a run's variants with one of them."""
    at_k, problems = at_equal_k(records, baseline, styles)
    equal = {axis: at_equal(records, baseline, axis, styles) for axis in AXES}
    measured = {axis: each for axis, each in equal.items() if each.measured}
    return Comparisons(baseline, at_k, problems, measured, fronts_of(records))


def names_of(records: Sequence[Record]) -> Names:
    """The titles of all metrics of the records."""
    arrows = {True: " ↑", False: " ↓", None: ""}
    return {
        (r["labels"]["task"], r["labels"]["task_version"], m["name"]): (
            f"{r['labels']['task']} {m['title'] or m['name']}{arrows[m['higher_is_better']]}"
        )
        for r in records
        for m in r["metrics"]
    }


def text_tables(
    found: Comparisons, names: Names, styles: Styles = NO_STYLES, axes: Sequence[str] = ("k", *AXES)
) -> list[TextTable]:
    """The tables of the section: at equal k, L0 and loss recovered (as `axes` names them), and the front."""
    tables: list[TextTable] = []
    if "k" in axes:
        tables += _tables(found.at_k, "k", found, names, styles, found.problems)
    for axis, equal in found.equal.items():
        if axis in axes:
            tables += _tables(equal.comparisons, axis, found, names, styles, equal.problems)
            tables += _curve_tables(equal, axis, names, styles)
    return [*tables, *_front_tables(found.front, styles)]


def plain_tables(tables: Sequence[TextTable]) -> str:
    """The tables as aligned text."""
    return "\n".join(line for table in tables for line in _plain(table)) + "\n"


def markdown_tables(tables: Sequence[TextTable]) -> str:
    """The tables as GitHub Markdown, to follow those of the results."""
    return "".join(f"{line}\n" for table in tables for line in _markdown(table))


def data_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """One row per comparison, with the columns `DATA`; unrounded, absent numbers are NaN."""
    import pandas as pd

    return pd.DataFrame([_numbers(each) for each in comparisons], columns=list(DATA))


def as_json(comparison: Comparison) -> dict[str, object]:
    """A comparison as plain JSON, with the names of `DATA`."""
    return dict(zip(DATA, _numbers(comparison), strict=True))


def _numbers(each: Comparison) -> tuple[object, ...]:
    series, test = each.series, each.test
    low, high = each.interval or (None, None)
    return (
        *(series.model, series.site, each.at, each.place, series.variant, series.view, series.width),
        *(each.baseline, series.task, series.task_version, series.metric, each.higher_is_better),
        *(each.other, each.own, each.difference, low, high, each.over, each.seeds, each.items),
        *((test.p, test.smallest, test.exact) if test else (None, None, None)),
        *(each.p_holm, *each.counts, each.verdict),
    )


def _tables(
    comparisons: Sequence[Comparison],
    axis: str,
    found: Comparisons,
    names: Names,
    styles: Styles,
    problems: Sequence[str],
) -> Iterator[TextTable]:
    """One table per model and site."""
    title = TITLES.get(axis, "k")
    baseline = row_title(found.baseline, styles)
    header = (title, "SAE", "metric", baseline, "SAE's", "difference", "95 % interval")
    counted = ("seeds", "items", "p", "p (Holm)", "W/T/L", "")
    places = dict.fromkeys(each.series[:2] for each in comparisons)
    decimals = _decimals(comparisons)
    views: defaultdict[str, set[str]] = defaultdict(set)
    for each in comparisons:
        views[each.series.variant].add(each.series.view)
    for number_of, place in enumerate(places):
        mine = [each for each in comparisons if each.series[:2] == place]
        rows = tuple(
            _row(
                each,
                names,
                styles,
                decimals[each.series[5:]],
                several_views=len(views[each.series.variant]) > 1,
            )
            for each in mine
        )
        notes = (*_notes(comparisons, axis), *problems) if number_of == len(places) - 1 else ()
        heading = f"Comparison with {baseline} at equal {title}: {', '.join(place)}"
        yield TextTable(heading, (*header, *counted), rows, notes)
    if problems and not places:
        yield TextTable(f"Comparison with {baseline} at equal {title}", (), (), tuple(problems))


def _decimals(comparisons: Sequence[Comparison]) -> dict[tuple[str, ...], int]:
    values: dict[tuple[str, ...], list[float]] = {}
    for each in comparisons:
        values.setdefault(each.series[5:], []).extend((each.own, each.other))
    return {metric: decimals_for(means) for metric, means in values.items()}


def _row(
    each: Comparison, names: Names, styles: Styles, decimals: int, *, several_views: bool
) -> tuple[str, ...]:
    series = each.series
    interval = (
        f"[{_signed(each.interval.low, decimals)}, {_signed(each.interval.high, decimals)}]"
        if each.interval
        else "—"
    )
    return (
        "" if each.place is None else f"{each.place:.4g}",
        variant_style(series.variant, styles).title + (f" ({series.view})" if several_views else ""),
        names[series[5:]],
        number(each.other, decimals),
        number(each.own, decimals),
        _signed(each.difference, decimals),
        interval,
        str(each.seeds),
        str(each.items) if each.items else "—",
        f"{each.test.p:.2g}" if each.test else "—",
        "—" if each.p_holm is None else f"{each.p_holm:.2g}",
        "/".join(map(str, each.counts)),
        each.verdict,
    )


def _signed(value: float, decimals: int) -> str:
    text = number(value, decimals)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def _notes(comparisons: Sequence[Comparison], axis: str) -> Iterator[str]:
    tests = [each.test for each in comparisons if each.test is not None]
    several = [each for each in comparisons if each.seeds > 1]
    if several:
        seeds = min(each.seeds for each in several)
        least = 2.0 ** (1 - seeds)
        hint = ", so more seeds are needed to call any difference one" if least > 0.05 else ""
        yield (
            "Differences are of the same seeds. The interval is Student's t of the paired differences; p is "
            "that of a paired permutation test over seeds, which cannot be below "
            f"{least:.2g} with {seeds} seeds{hint}."
        )
    if any(each.over == "items" for each in comparisons):
        yield (
            "With one seed, interval (bootstrap), p and counts are over the items that both SAEs were scored "
            "on: they say whether these two SAEs differ, not whether two variants do."
        )
    if any(each.over == "seeds" and each.seeds == 1 for each in comparisons):
        yield "One seed without items says nothing about chance: there is no interval and no p."
    if tests:
        yield (
            f"p (Holm) is corrected for all {len(tests)} tests at equal {TITLES.get(axis, 'k')}; `better` "
            "and `worse`: p (Holm) is at most 0.05."
        )
    yield "W/T/L: wins, ties and losses of the SAE, per seed, or per item if there is one seed."
    if axis in AXES:
        yield (
            f"Values are interpolated linearly along each seed's curve over {TITLES[axis]}, within the range "
            "that all curves of the two variants have in common; nothing is extrapolated."
        )


def _curve_tables(equal: AtEqual, axis: str, names: Names, styles: Styles) -> Iterator[TextTable]:
    for place in dict.fromkeys(curve.series[:2] for curve in equal.curves):
        rows = []
        for curve in equal.curves:
            if curve.series[:2] == place:
                digits = decimals_for(y for _, y in curve.points)
                points = "  ".join(f"({x:.4g}, {number(y, digits)})" for x, y in curve.points)
                title = variant_style(curve.series.variant, styles).title
                rows.append((title, curve.series.view, names[curve.series[5:]], points))
        heading = f"Curves over {TITLES[axis]}: {', '.join(place)}"
        header = ("SAE", "view", "metric", f"({TITLES[axis]}, metric), means over seeds")
        yield TextTable(heading, header, tuple(sorted(rows, key=lambda row: row[2])))


def _front_tables(points: Sequence[FrontPoint], styles: Styles) -> Iterator[TextTable]:
    places = list(dict.fromkeys((point.model, point.site) for point in points))
    for place in places:
        mine = [point for point in points if (point.model, point.site) == place]
        rows = tuple(
            (
                "" if point.k is None else str(point.k),
                variant_style(point.variant, styles).title,
                str(point.width),
                str(point.seeds),
                f"{point.l0:.4g}",
                f"{point.loss_recovered:.4f}",
                "yes" if point.on_front else "no",
                "—" if point.share is None else f"{point.share:.0%}",
            )
            for point in sorted(mine, key=lambda p: (absent_last(p.k), p.l0))
        )
        header = ("k", "SAE", "latents", "seeds", "L0 ↓", "loss rec. ↑", "on the front", "share of resamples")
        notes = (
            "Pareto front of L0 and loss recovered. The share is that of 2,000 resamples of the seeds in "
            "which the point is on the front; with one seed it is not known.",
        )
        yield TextTable(
            f"Pareto front: {', '.join(place)}", header, rows, notes if place == places[-1] else ()
        )


def _plain(table: TextTable) -> Iterator[str]:
    yield from ("", table.heading, "")
    columns = list(zip(table.header, *table.rows, strict=True)) if table.header else []
    widths = [max(map(len, column)) for column in columns]
    for row in (table.header, *table.rows) if table.header else ():
        padded = (
            _pad(text, width, name) for text, width, name in zip(row, widths, table.header, strict=True)
        )
        yield "  ".join(padded).rstrip()
    if table.notes:
        yield ""
    for note in table.notes:
        yield from textwrap.wrap(note, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


WIDTH = 110
"""Characters per line of notes."""
_LEFT = frozenset({"SAE", "metric", "task", "view", ""})


def _pad(text: str, width: int, column: str) -> str:
    return text.ljust(width) if column in _LEFT or column.startswith("(") else text.rjust(width)


def _markdown(table: TextTable) -> Iterator[str]:
    yield from ("", f"## {escaped(table.heading)}", "")
    if table.header:
        yield from pipes(table.header, [[*map(escaped, row)] for row in table.rows])
    yield from ("", *(f"- {escaped(note)}" for note in table.notes)) if table.notes else ()
