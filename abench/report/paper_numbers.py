"""The known numbers of the paper (arXiv 2510.00404), exactly as printed there."""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class PaperNumber(NamedTuple):
    """One number, in the columns of paper_numbers.csv."""

    table: str
    model: str
    layer: str
    metric: str
    variant: str
    value: str
    source: str
    """`description`: from a description of the paper; `summary`: second-hand, from summaries by others."""


@cache
def all_numbers() -> tuple[PaperNumber, ...]:
    """Every known number, in the order of the file."""
    text = files("abench.report").joinpath("paper_numbers.csv").read_text(encoding="utf-8")
    return tuple(PaperNumber(**row) for row in csv.DictReader(text.splitlines()))


@cache
def paper_numbers(*tables: str) -> Mapping[tuple[str, str, str, str], str]:
    """(model, layer, variant, metric) -> printed number, for the named tables of the paper."""
    found = (each for each in all_numbers() if each.table in tables)
    return {(each.model, each.layer, each.variant, each.metric): each.value for each in found}
