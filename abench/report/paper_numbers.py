"""The known numbers of the paper (arXiv 2510.00404), exactly as printed there."""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files


@cache
def paper_numbers(*tables: str) -> Mapping[tuple[str, str, str, str], str]:
    """(model, layer, variant, metric) -> printed number, for the named tables of the paper."""
    text = files("abench.report").joinpath("paper_numbers.csv").read_text(encoding="utf-8")
    rows = (row for row in csv.DictReader(text.splitlines()) if row["table"] in tables)
    return {(row["model"], row["layer"], row["variant"], row["metric"]): row["value"] for row in rows}
