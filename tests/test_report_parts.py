"""Cells that rest on parts of the data: the notes, and what is neither averaged nor compared."""

from typing import Any

from test_report_tables import cell

from abench.report.build import build_tables
from abench.report.render import plain
from abench.report.tables import TableCell

REASON = "the model answers 3 of 200 prompts"


def parts(*used: str, **left_out: str) -> list[dict[str, Any]]:
    return [{"what": "kinds of entities", "used": list(used), "left_out": left_out}]


CITY, BOTH = parts("city", nobel=REASON), parts("city", "nobel")


def shown(*records: dict[str, Any]) -> dict[str, TableCell]:
    (table,) = build_tables(records).shown
    return {row.variant: row.cells[0] for row in table.rows()}


def notes(*records: dict[str, Any]) -> tuple[str, ...]:
    tables = build_tables(records)
    return (*tables.numbered, *tables.general)


def test_the_table_names_what_all_cells_rest_on() -> None:
    records = [cell(score, variant=v, task="ravel", parts=CITY) for v, score in (("topk", 1), ("relu", 2))]
    assert f"ravel rests on 1 of 2 kinds of entities: city (nobel left out: {REASON})." in notes(*records)
    assert shown(*records)["relu"].bold
    assert "kinds of entities: city" in " ".join(plain(build_tables(records)).split())


def test_complete_parts_need_no_note() -> None:
    assert not [note for note in notes(cell(1, parts=BOTH), cell(2, seed=1, parts=BOTH)) if "rests" in note]


def test_parts_with_the_same_reason_are_listed_together() -> None:
    (note,) = (n for n in notes(cell(1, parts=parts("a", b="why.", c="why.", d="how"))) if "rests" in n)
    assert note == "core rests on 1 of 4 kinds of entities: a (b, c left out: why; d left out: how)."


def test_cells_that_rest_on_different_parts_are_not_compared() -> None:
    one, other = cell(1, variant="topk", parts=CITY), cell(2, variant="relu", parts=BOTH)
    cells = shown(one, other)
    assert not cells["topk"].bold and not cells["relu"].bold
    assert cells["topk"].marks and cells["relu"].marks and cells["topk"].marks != cells["relu"].marks
    said = notes(one, other)
    assert said[0].startswith(f"Rests on 1 of 2 kinds of entities: city (nobel left out: {REASON}). It is n")
    assert said[1].startswith("Rests on all 2 kinds of entities: city, nobel. It is neither averaged nor")
    third = cell(0, variant="gated", parts=BOTH)
    assert shown(one, other, third)["relu"].bold
    assert not shown(one, other, third)["topk"].bold


def test_seeds_that_rest_on_different_parts_have_no_mean() -> None:
    records = [cell(score, seed=score, parts=each) for score, each in enumerate((CITY, CITY, BOTH))]
    assert shown(*records)["topk"].mean is None and len(shown(*records)["topk"].marks) == 2
    assert shown(*records[:2])["topk"].mean == 0.5


def test_cells_of_other_tasks_are_as_before() -> None:
    mixed = [cell(1, task="ravel", parts=CITY), cell(2, task="ravel", variant="relu", parts=BOTH)]
    others = [cell(1, task="core"), cell(2, task="core", variant="relu")]
    tables = build_tables([*mixed, *others])
    core = {row.variant: row.cells[0] for row in tables.wide.rows()}
    assert core["relu"].bold and not core["relu"].marks


def test_records_without_the_field_are_compared_as_before() -> None:
    for parts_ in (None, CITY, BOTH):
        records = [cell(1, variant="topk", parts=parts_), cell(2, variant="relu")]
        assert shown(*records)["relu"].bold
        assert not shown(*records)["relu"].marks
    records = [cell(1, seed=0, parts=BOTH), cell(2, seed=1)]
    assert shown(*records)["topk"].mean == 1.5
