"""Steering concepts from the user's files: what is read, which latents are judged, and how they are shown."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from abench.tasks.bidirectionality import Bidirectionality
from abench.tasks.bidirectionality.concepts import own_concepts
from command import SMALL, Abench
from pole_saes import planted
from signed import flipped

from abench import UserError
from abench.conformance.bench import Bench
from abench.runs.inputs import input_hashes
from abench.task import parted
from abench.tinyworld import World

PAGE = Path(__file__).parents[1] / "docs" / "steering.md"


def texts_of(label: str, other: str, number: int = 12) -> list[str]:
    """Sentences of the tiny world with words of one pole of an axis and none of the other."""
    documents = islice(World().documents("train", seed=3), 4000)
    found = (
        each.text
        for each in documents
        if sum(label in c for c in each.concepts) >= 2 and not any(other in c for c in each.concepts)
    )
    return list(islice(found, number))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return [
        {"text": text, "pole": pole, "concept": axis}
        for axis, poles in (("gender", ("gender+", "gender-")), ("register", ("formality+", "formality-")))
        for pole, other in (poles, poles[::-1])
        for text in texts_of(pole, other)
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    frame = pd.DataFrame(rows)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return str(path)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_concepts_are_read_from_every_format(tmp_path: Path, rows: list[dict[str, str]], ending: str) -> None:
    gender, register = own_concepts(written(tmp_path / f"mine.{ending}", rows), {}, limit=None)
    assert (gender.name, register.name) == ("gender", "register")
    assert gender.poles == ("gender+", "gender-")
    assert gender.texts[1] == tuple(row["text"] for row in rows if row["pole"] == "gender-")
    limited = own_concepts(str(tmp_path / f"mine.{ending}"), {}, limit=6)
    assert [len(texts) for each in limited for texts in each.texts] == [3] * 4


def test_one_concept_needs_no_column_and_columns_can_have_other_names(tmp_path: Path) -> None:
    rows = [{"text": f"{pole} {i}", "label": pole} for pole in ("hot", "cold") for i in range(3)]
    (mine,) = own_concepts(
        written(tmp_path / "warmth.csv", [*rows, {"text": "hot 0", "label": "cold"}]), {}, limit=None
    )
    assert (mine.name, mine.poles) == ("warmth", ("hot", "cold"))
    assert mine.texts == (("hot 1", "hot 2"), ("cold 0", "cold 1", "cold 2"))
    renamed = [{"sentence": row["text"], "side": row["label"], "about": "t"} for row in rows]
    names = {"text": "sentence", "label": "side", "attribute": "about"}
    (again,) = own_concepts(written(tmp_path / "m.jsonl", renamed), names, limit=None)  # type: ignore[arg-type]
    assert (again.name, again.texts[0]) == ("t", ("hot 0", "hot 1", "hot 2"))


def test_mistakes_in_a_file_are_sentences(tmp_path: Path) -> None:
    def fails(message: str, *rows: tuple[str, str]) -> None:
        file = written(tmp_path / "mine.csv", [dict(zip(("text", "pole"), row, strict=True)) for row in rows])
        with pytest.raises(UserError, match=message):
            own_concepts(file, {}, limit=None)

    fails("the concept 'mine' must have two poles, and it has 3: a, b, c", ("x", "a"), ("y", "b"), ("z", "c"))
    fails("the pole 'b' of the concept 'mine' has 1 texts", ("x", "a"), ("z", "a"), ("y", "b"))
    fails("row 2 is empty in column 'pole'", ("x", "a"), ("y", ""))


@torch.no_grad()
def test_the_latents_of_the_concepts_are_judged(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    bench = Bench(limit=200)
    bench._evaluation = bench._evaluation.model_copy(update={"tokens": 25_600, "batch_size": 32})
    task = Bidirectionality(concepts=written(tmp_path / "mine.csv", rows), validation=0)
    right = planted(bench.lm, bench.site)  # type: ignore[arg-type]
    found = {}
    for sign, sae in ((1, right), (-1, flipped(right))):
        ctx = bench.context((sae,))
        scores, details = parted(task, task.score(sae, task.prepare(bench.lm, ctx), bench.lm, ctx))  # type: ignore[arg-type]
        found[sign] = details["poles"]["concepts"]
        assert (scores["opposites"], scores["latents"]) == (1, 2)
    gender, register = found[1]
    assert gender == {
        "concept": "gender",
        "latent": 0,
        "positive": "gender+",
        "negative": "gender-",
        "kind": "opposites",
    }
    assert (register["latent"], register["kind"]) == (1, "opposites")
    assert {each["latent"] for each in found[-1]} == {0, 1}


def test_the_content_is_in_the_key_and_no_earlier_key_changes(tmp_path: Path) -> None:
    assert not {"concepts", "columns"} & set(Bidirectionality().model_dump())
    file = tmp_path / "mine.csv"
    task = Bidirectionality(concepts=str(file))
    digests = []
    for text in ("a", "b"):
        file.write_text(text, encoding="utf-8")
        digests.append(input_hashes(task)["concepts"])
    assert digests[0] != digests[1]
    assert task.model_dump()["concepts"] == str(file)


def test_a_run_names_the_concepts(tmp_path: Path, abench: Abench, rows: list[dict[str, str]]) -> None:
    file = written(tmp_path / "mine.jsonl", rows)
    option = "task_options.bidirectionality"
    own = ("--set", f"{option}.concepts={file}", "--set", f"{option}.validation=0", "--limit", "40")
    where = ("--results", tmp_path / "results")
    run = abench(
        "run", "--variants", "abstopk", "--k", "8", *SMALL, "--tasks", "bidirectionality", *own, *where
    )
    assert run.code == 0, run.err
    assert "differ most between the poles of 2 given concepts" in " ".join(run.out.split())
    (page,) = (tmp_path / "results").rglob("index.html")
    assert "gender (gender" in page.read_text(encoding="utf-8")
    (cell,) = (tmp_path / "results" / "cells").rglob("*.json")
    poles = json.loads(cell.read_text(encoding="utf-8"))["details"]["poles"]
    assert [each["concept"] for each in poles["concepts"]] == ["gender", "register"]


def test_the_documented_example_steers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text(encoding="utf-8").split("## Concepts of your own")[1]
    header, *example = page.split("```csv\n")[1].split("```")[0].splitlines()
    file = tmp_path / "concepts.csv"
    # Each pole needs two texts.
    file.write_text("\n".join([header, *example, *(f"{line} again." for line in example)]), encoding="utf-8")
    (concept,) = own_concepts(str(file), {}, limit=None)
    assert (concept.name, concept.poles) == ("gender", ("female", "male"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    assert names["replies"][0] and names["replies"] != names["lm"].generate(
        ["the teacher said that"], max_new_tokens=12
    )
