"""The notes on its scores in reports: who judged, how well, and what no explanation at all would score."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

_LEXICAL = (
    " `lexical` asks no language model: it explains a latent by the words that it sees, so its scores cannot"
    " be compared with those of a language model."
)


def notes_on(records: Sequence[Record]) -> tuple[str, ...]:
    """One note per judge, validation and sizes."""
    cells = [found for record in records if (found := _details(record)) is not None]
    notes = [_note(cell) for cell in cells]
    invalid = sum(cell["invalid"] for cell in cells)
    unread = f"{invalid} answers of judges on latents could not be parsed; they are left out."
    return (*dict.fromkeys(notes), *((unread,) if invalid else ()))


def _details(record: Record) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (record.get("details") or {}).get("autointerp")
    return found if record["status"] == "done" else None


def _note(cell: Mapping[str, Any]) -> str:
    judge, (active, inactive) = cell["judge"], cell["tested"]
    text = (
        f"autointerp: {judge} explains and predicts. A judge that predicts no firing at all has a detection"
        f" of {inactive / (active + inactive):.2f}, and a balanced one of 0.50."
    )
    return text + "".join(_tested(cell["validation"])) + (_LEXICAL if judge == "lexical" else "")


def _tested(validation: Mapping[str, Any] | None) -> Iterator[str]:
    if validation is None:
        return
    value, low, high, n = validation["accuracy"]
    parts = [f"{kind} {100 * share[0]:.0f} % of {share[3]}" for kind, share in validation["by_kind"].items()]
    yield (
        f" Validation: on {n} constructed latents it is right in {100 * value:.1f} % [{100 * low:.1f},"
        f" {100 * high:.1f}]: {', '.join(parts)}."
    )
