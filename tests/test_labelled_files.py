"""Labelled texts from the user's files: what is read, how it is split, and how mistakes are reported."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from abench.tasks._shared import sae_probes
from abench.tasks._shared.labelled import Labelled, labelled, quadrants
from abench.tasks._shared.labelled_files import examples
from signed import random_sae

from abench import Amount, Context, LanguageModel, Skip, Task, UserError
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.runs.inputs import input_hashes
from abench.task import checked, parted, reason_to_skip
from abench.tinyworld import MODEL_DIR

TINY = DataSpec(source="tinyworld", dataset=None)
Row = Mapping[str, Any]


def context_of(**changes: Any) -> Context:
    spec = EvaluationSpec(seed=changes.pop("seed", 0), limit=changes.pop("limit", None))
    return Context("blocks.2.hook_resid_post", spec, TINY, 128, memory={}, **changes)


def written(path: Path, rows: Sequence[Row]) -> str:
    """A file of rows, in the format that its name states."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def numbered(**counts: int) -> list[Row]:
    """So many different texts of each label."""
    return [{"text": f"{c} text {i}", "label": c} for c, n in counts.items() for i in range(n)]


def rows_of(data: Labelled) -> list[Row]:
    """The texts of a data set as a file has them, part by part, class by class."""
    halves = {"train": data.train, "test": data.test}
    return [
        {"text": text, "label": label, "split": part}
        for part, half in halves.items()
        for label, texts in half.items()
        for text in texts
    ]


# What is read


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "jsonl.gz"])
def test_all_formats_give_the_same_texts(ending: str, tmp_path: Path) -> None:
    rows = [{**row, "split": ("train", "test")[i % 2]} for i, row in enumerate(numbered(a=80, b=60))]
    if ending.endswith(".gz"):
        import gzip

        path = tmp_path / f"mine.{ending}"
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
        name = str(path)
    else:
        name = written(tmp_path / f"mine.{ending}", rows)
    data = labelled(name, context_of(), train=400, test=200)
    in_a = [f"a text {i}" for i in range(80)]
    assert set(data.train["a"]) <= set(in_a[::2])
    assert data.test["b"] == tuple(f"b text {i}" for i in range(1, 60, 2))
    assert {len(texts) for half in (data.train, data.test) for texts in half.values()} == {30}
    same = labelled(written(tmp_path / "same.csv", rows), context_of(), train=400, test=200)
    assert (data.train, data.test) == (same.train, same.test)


def test_whole_numbers_are_labels(tmp_path: Path) -> None:
    rows = [{**row, "label": int(row["label"] == "a")} for row in numbered(a=150, b=150)]
    for name in ("mine.jsonl", "mine.parquet"):
        assert {each.label for each in examples(written(tmp_path / name, rows), {})} == {"0", "1"}


def test_columns_can_have_other_names(tmp_path: Path) -> None:
    rows = [{"sentence": row["text"], "text": 5, "topic": row["label"]} for row in numbered(a=3, b=3)]
    found = examples(written(tmp_path / "mine.jsonl", rows), {"text": "sentence", "label": "topic"})
    assert [(each.text, each.label) for each in found][:1] == [("a text 0", "a")]


def test_without_parts_the_seed_and_the_text_decide(tmp_path: Path) -> None:
    rows = numbered(a=300, b=300)
    halves = [
        labelled(written(tmp_path / "m.csv", rows), context_of(seed=s), train=400, test=100) for s in (0, 1)
    ]
    train, test = (
        {t for texts in half.values() for t in texts} for half in (halves[0].train, halves[0].test)
    )
    assert not train & test
    assert {len(texts) for texts in halves[0].test.values()} == {50}
    assert halves[0].train != halves[1].train
    # A text stays in its part when others are added and all are moved.
    more = [*numbered(a=700, b=700)[::-1]]
    moved = labelled(written(tmp_path / "n.csv", more), context_of(), train=10**6, test=250_000)
    assert train <= {t for texts in moved.train.values() for t in texts} | {
        t for c in ("a", "b") for t in train if t.startswith(c)
    }
    assert not test & {t for texts in moved.train.values() for t in texts}
    assert not train & {t for texts in moved.test.values() for t in texts}


def test_repeated_texts_count_once_and_contradictions_not_at_all(tmp_path: Path) -> None:
    rows = [*numbered(a=2, b=2), {"text": "a text 0", "label": "a"}, {"text": "b text 1", "label": "a"}]
    found = examples(written(tmp_path / "mine.csv", rows), {})
    assert [each.text for each in found] == ["a text 0", "a text 1", "b text 0"]


def test_fewer_texts_than_usual_are_recorded(tmp_path: Path) -> None:
    used: list[Amount] = []
    ctx = context_of(used=used.append)
    labelled(written(tmp_path / "mine.csv", numbered(a=200, b=160)), ctx, train=4000, test=1000)
    (amount,) = used
    assert amount.requested == 5000
    assert 300 <= amount.used < 360


def test_a_limit_keeps_some_of_each_class(tmp_path: Path) -> None:
    name = written(tmp_path / "mine.csv", numbered(a=200, b=160))
    data = labelled(name, context_of(limit=8), train=4000, test=1000)
    assert {len(texts) for half in (data.train, data.test) for texts in half.values()} == {4}


# Equal to the built-in data sets


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@torch.no_grad()
def scored(task: Task, lm: LanguageModel, sae: Any) -> Mapping[str, float]:
    ctx = replace(context_of(seed=3), saes=(sae,))
    assert reason_to_skip(task, lm, ctx) is None
    return checked(task, parted(task, task.score(sae, task.prepare(lm, ctx), lm, ctx))[0])


def task_of(name: str, **options: Any) -> Task:
    return get_task(name, options, find_tasks())


def test_probing_a_file_equals_probing_the_same_built_in_texts(lm: LanguageModel, tmp_path: Path) -> None:
    name = "tinyworld/reviews_sentiment"
    data = labelled(name, context_of(seed=3), train=80, test=40)
    file, sae = written(tmp_path / "mine.csv", rows_of(data)), random_sae("abstopk")
    sizes = {"train_texts": 80, "test_texts": 40, "context": 32}
    builtin, mine = (scored(task_of("sparse_probing", datasets=[d], **sizes), lm, sae) for d in (name, file))
    assert mine == builtin


def test_a_word_that_is_the_label_is_found(lm: LanguageModel, tmp_path: Path) -> None:
    """Planted truth: the label is a word of the text, so the model's probe is always right."""
    data = labelled("tinyworld/reviews", context_of(), train=160, test=80)
    texts = [text for half in (data.train, data.test) for each in half.values() for text in each]
    rows = [
        {"text": f"{('surgeon', 'hotel')[i % 2]} {text}", "label": ("yes", "no")[i % 2]}
        for i, text in enumerate(texts)
    ]
    task = task_of("sparse_probing", datasets=[written(tmp_path / "mine.jsonl", rows)], context=8)
    scores = scored(task, lm, random_sae("topk"))
    assert scores["llm_test_accuracy"] == 1.0
    assert scores["sae_top_5_test_accuracy"] > 0.9


PAIR = ("surgeon", "dentist")


def crossed(ctx: Context, train: int, test: int) -> list[Row]:
    """The tiny world's corners of a pair of professions, as the rows of a file."""
    data = quadrants("tinyworld/biographies", PAIR, ctx, train=train, test=test)
    return [
        {"text": t, "label": data.classes[i], "attribute": data.values[j], "split": part}
        for part, half in (("train", data.train), ("test", data.test))
        for (i, j), texts in half.items()
        for t in texts
    ]


def test_corners_of_a_file_equal_the_built_in_ones(tmp_path: Path) -> None:
    ctx = context_of()
    name = written(tmp_path / "mine.csv", crossed(ctx, 160, 80))
    mine = quadrants(name, PAIR, ctx, train=160, test=80)
    builtin = quadrants("tinyworld/biographies", PAIR, ctx, train=160, test=80)
    assert replace(mine, name=builtin.name) == builtin


def test_scr_and_tpp_run_on_files(lm: LanguageModel, tmp_path: Path) -> None:
    few = {"probe_epochs": 2, "context": 32}
    rows = crossed(context_of(), 160, 80)
    scr = task_of("scr", datasets=[written(tmp_path / "crossed.csv", rows)], **few)
    ctx = context_of()
    assert scr._texts(str(tmp_path / "crossed.csv"), PAIR, ctx)  # type: ignore[attr-defined]
    assert reason_to_skip(scr, lm, ctx) is None
    data = labelled("tinyworld/reviews", context_of(seed=3), train=80, test=40)
    found = []
    for folder in (tmp_path / "here", tmp_path / "there"):
        folder.mkdir()
        file = written(folder / "reviews.jsonl", rows_of(data))
        found.append(scored(task_of("tpp", datasets=[file], **few), lm, random_sae("abstopk")))
    # Where the file is changes no number.
    assert found[0] == found[1]


# Keys


def test_only_set_options_and_the_files_content_are_in_keys(tmp_path: Path) -> None:
    for name in ("sparse_probing", "scr", "tpp"):
        assert {"columns", "pairs"}.isdisjoint(task_of(name).model_dump(mode="json"))
        assert task_of(name, columns={"text": "t"}).model_dump(mode="json")["columns"] == {"text": "t"}
    mine = written(tmp_path / "mine.csv", numbered(a=1))
    task = task_of("tpp", datasets=["tinyworld/reviews", mine, "sae-probes/97_news_class"])
    before = input_hashes(task)
    assert set(before) == {"datasets[1]", "datasets[2]"}
    written(tmp_path / "mine.csv", numbered(b=1))
    assert input_hashes(task)["datasets[1]"] != before["datasets[1]"]
    scr = task_of("scr", datasets=["a.csv"], pairs={"a.csv": [["x", "y"]]})
    assert scr.model_dump(mode="json")["pairs"] == {"a.csv": [["x", "y"]]}


# The package sae-probes


def test_data_sets_of_sae_probes() -> None:
    assert len(sae_probes.names()) > 100
    data = labelled("sae-probes/5_hist_fig_ismale", context_of(), train=400, test=100)
    assert {c: len(texts) for c, texts in data.train.items()} == {"0": 200, "1": 200}
    with pytest.raises(UserError, match="there is no data set 'sae-probes/nothing'; the package sae-probes"):
        labelled("sae-probes/nothing", context_of(), train=8, test=8)


# Mistakes

BAD: list[tuple[str, Any, str]] = [
    ("absent.csv", None, "the data file .*absent.csv does not exist"),
    ("mine.csv", "", "mine.csv has no rows"),
    ("mine.csv", "text,label\n", "mine.csv has no rows"),
    ("mine.csv", "text,topic\nhello,a\n", "row 1 has no column 'label'; it has text, topic. The option colu"),
    ("mine.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', "mine.jsonl: row 2 has no column 'label'"),
    ("mine.jsonl", '{"text": 5, "label": 1}\n', "row 1 has 5 in column 'text': text is needed"),
    ("mine.jsonl", '{"text": null, "label": 1}\n', "mine.jsonl: row 1 is empty in column 'text'"),
    ("mine.csv", "text,label\na,x\n  ,y\n", "mine.csv: row 2 is empty in column 'text'"),
    ("mine.csv", "text,label\na,\n", "mine.csv: row 1 is empty in column 'label'"),
    (
        "mine.jsonl",
        '{"text": "a", "label": 0.5}\n',
        "row 1 has 0.5 in column 'label': a label must be text or",
    ),
    ("mine.jsonl", '{"text": "a", "label": ["x"]}\n', r"row 1 has \['x'\] in column 'label'"),
    (
        "mine.csv",
        "text,label,split\na,x,dev\n",
        "row 1 has 'dev' in column 'split': it must be train or test",
    ),
    ("mine.csv", "text,label\na,x\nb,x\n", "mine.csv has only the label 'x'; texts of at least two labels"),
    ("mine.csv", b"text,label\n\xff\xfe,x\n", "mine.csv cannot be read: it is not UTF-8"),
    ("mine.parquet", b"PAR1", "mine.parquet cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_a_mistake_names_file_row_and_column(name: str, content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for task in ("sparse_probing", "tpp", "scr"):
        # Without a model: the files are read before anything else.
        with pytest.raises(UserError, match=message):
            task_of(task, datasets=[str(path)]).skip(None, context_of())


def test_too_few_texts_are_a_reason_to_skip(tmp_path: Path) -> None:
    name = written(tmp_path / "mine.csv", numbered(a=300, b=30, c=300))
    reason = reason_to_skip(task_of("sparse_probing", datasets=[name]), None, context_of())
    assert reason is not None
    assert (
        "texts with label 'b', and at least 20 are needed; add texts, or state in a column 'split'" in reason
    )
    many = written(tmp_path / "many.csv", [{"text": f"t{i}", "label": f"l{i}"} for i in range(50)])
    with pytest.raises(Skip, match=r"has 0 t[a-z]* texts with label 'l.*', the fewest of its 50 labels"):
        labelled(many, context_of(), train=400, test=200)


def with_attribute(rows: Sequence[Row], values: int) -> list[Row]:
    return [{**row, "attribute": number % values} for number, row in enumerate(rows)]


SCR_BAD: list[tuple[list[Row], dict[str, Any], str]] = [
    (numbered(a=99, b=99), {}, "mine.csv has no column 'attribute', the second attribute"),
    (with_attribute(numbered(a=9, b=9), 3), {}, "must have two values, and it has 3: 0, 1, 2"),
    (with_attribute(numbered(a=9, b=9, c=9, d=9, e=9), 2), {}, "5 labels, which are 10 pairs; choose pairs"),
    (with_attribute(numbered(a=90, b=90), 2), {"pairs": [["a", "x"]]}, "no text with the label 'x'"),
]


@pytest.mark.parametrize(("rows", "options", "message"), SCR_BAD)
def test_what_scr_needs(rows: list[Row], options: dict[str, Any], message: str, tmp_path: Path) -> None:
    name = written(tmp_path / "mine.csv", rows)
    given = {option: {name: value} for option, value in options.items()}
    with pytest.raises(UserError, match=message):
        task_of("scr", datasets=[name], **given).skip(None, context_of())


def test_pairs_are_those_of_files() -> None:
    with pytest.raises(UserError, match=r"pairs: 'other.csv' is not one of the files in datasets"):
        task_of("scr", datasets=["mine.csv"], pairs={"other.csv": [["a", "b"]]})


def test_a_corner_without_texts_is_named(tmp_path: Path) -> None:
    rows = [{**r, "attribute": "u" if r["label"] == "a" else "v"} for r in numbered(a=90, b=90)]
    reason = reason_to_skip(task_of("scr", datasets=[written(tmp_path / "m.csv", rows)]), None, context_of())
    assert reason is not None
    assert "has 0 train texts with label 'a' and attribute 'v', and at least 10 are needed" in reason


def test_tpp_needs_three_labels(tmp_path: Path) -> None:
    name = written(tmp_path / "mine.csv", numbered(a=300, b=300))
    with pytest.raises(UserError, match=r"tpp: .*mine.csv has two labels; with fewer than three"):
        task_of("tpp", datasets=[name]).skip(None, context_of())
