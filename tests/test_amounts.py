"""How much data tasks used: in their cells, and as a note or a skip where it is too little."""

import json
from pathlib import Path
from typing import Any

from command import Abench, Result

from abench.amounts import Amount, summed
from abench.report.notes import general_notes
from abench.tinyworld import World

HELD_OUT = 30


def corpus(folder: Path, documents: int, held_out: str | None = None) -> Path:
    """A file whose first documents, which are held out, are `held_out` or texts of the tiny world."""
    stream = World().texts("train")
    lines = [held_out if held_out is not None and n < HELD_OUT else next(stream) for n in range(documents)]
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return file


def run(abench: Abench, folder: Path, file: Path, *more: str) -> Result:
    sizes = ("--variants", "topk", "--width", "64", "--k", "4", "--tokens", "1024", "--tasks", "core")
    settings = ["data.source=file", f"data.dataset={file}", f"data.held_out_documents={HELD_OUT}"]
    settings += ["training.batch_size=256", "training.buffer_tokens=1024", *more]
    return abench("run", *sizes, *(f"--set={each}" for each in settings), "--results", folder / "results")


def cell(folder: Path) -> dict[str, Any]:
    (file,) = (folder / "results").glob("cells/*/*/*/*.json")
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_less_text_than_requested_is_in_the_cell_and_under_the_table(abench: Abench, tmp_path: Path) -> None:
    file = corpus(tmp_path, 200)
    result = run(abench, tmp_path, file)
    assert result.code == 0, result.err
    (amount,) = cell(tmp_path)["used"]
    assert amount["what"] == "held-out tokens" and amount["requested"] == 204_800
    assert 0 < amount["used"] < 5_000
    note = f"Less data than requested: core: {amount['used']:,} of 204,800 held-out tokens."
    assert note in " ".join(result.out.split())
    for name in ("index.html", "table.md"):
        assert note in (tmp_path / "results" / "reports" / "default" / name).read_text()


def test_too_little_text_is_a_skip_and_nothing_is_trained(abench: Abench, tmp_path: Path) -> None:
    result = run(abench, tmp_path, corpus(tmp_path, 200, held_out="a"), "context=128")
    assert result.code == 0, result.err
    record = cell(tmp_path)
    assert record["status"] == "skipped"
    assert record["reason"] == "the held-out text does not fill one context of 128 tokens"
    assert "training" not in result.err and not list((tmp_path / "results" / "saes").rglob("*.safetensors"))
    again = run(abench, tmp_path, tmp_path / "texts.jsonl", "context=128")
    assert "0 cells computed, 1 from the results folder" in again.out


def test_a_limit_is_the_request(abench: Abench, tmp_path: Path) -> None:
    result = run(abench, tmp_path, corpus(tmp_path, 200), "evaluation.limit=2")
    assert result.code == 0, result.err
    assert cell(tmp_path)["used"] == [{"what": "held-out tokens", "used": 256, "requested": 256}]
    assert "Less data" not in result.out


def test_amounts_of_the_same_thing_add_up() -> None:
    found = summed([Amount("texts", 3, 4), Amount("pairs", 1, 1), Amount("texts", 2, 2)])
    assert found == [
        {"what": "texts", "used": 5, "requested": 6},
        {"what": "pairs", "used": 1, "requested": 1},
    ]


def test_a_note_gives_the_range_over_cells() -> None:
    def record(used: int, status: str = "done") -> dict[str, Any]:
        labels = {"task": "core", "variant": "topk", "k": 4, "seed": 0}
        amounts = [{"what": "texts", "used": used, "requested": 9}]
        return {"labels": labels, "status": status, "used": amounts, "limited": False, "scores": {}}

    records = [record(3), record(1, "failed"), record(5), record(9)]
    assert general_notes(records, (), {}) == ("Less data than requested: core: 3 to 5 of 9 texts.",)
    assert general_notes([{**record(9), "used": None}], (), {}) == ()
