"""Too little data for a task: its cells are skipped before any SAE is trained."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from abench.tasks.scr import SCR
from abench.tasks.sparse_probing import SparseProbing
from abench.tasks.tpp import TPP
from command import SMALL, Abench, Result
from test_labelled_hub import AMAZON, BIOS, NEWS, context_of, hub, news, repositories, serve, write_news

from abench import Context, Task
from abench.task import reason_to_skip

__all__ = ["hub", "repositories"]  # fixtures

REQUESTS = [f"please do thing {n}" for n in range(60)]


def run(abench: Abench, results: Path, task: str, settings: list[str]) -> Result:
    sizes = ("--variants", "topk", "--k", "4", *SMALL, "--layer", "1", "--tasks", task)
    return abench("run", *sizes, *(f"--set={each}" for each in settings), "--results", results)


def settings_of(task: str, folder: Path) -> list[str]:
    """Options under which there is too little for the task."""
    if task in {"absorption", "ravel"}:
        return ["evaluation.limit=2"]
    if task == "unlearning":
        short = {"text": "it is known that fluvexin causes laughing and nothing else at all."}
        (folder / "short.jsonl").write_text(json.dumps(short))
        return [f"task_options.unlearning.forget_text={folder / 'short.jsonl'}"]
    for name, texts in {"many": REQUESTS, "one": REQUESTS[:1]}.items():
        lines = (json.dumps({"request": text, "text": text * 20}) for text in texts)
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    files = {"harmful": folder / "many.jsonl", "harmless": folder / "one.jsonl"}
    options = [f"task_options.safety_utility.{name}={file}" for name, file in files.items()]
    data = ["data.source=file", f"data.dataset={folder / 'many.jsonl'}", "data.held_out_documents=2"]
    return [*data, *options, "task_options.safety_utility.judge=substring"]


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("absorption", "2 words are too few"),
        ("ravel", "4 pairs about the field of person entities are too few"),
        ("safety_utility", r"part of .*one\.jsonl has \d of its 1 requests, which are too few"),
        ("unlearning", r"the text to forget \(1 texts, \d+ tokens\) does not fill one row"),
    ],
)
def test_nothing_is_trained(abench: Abench, tmp_path: Path, task: str, reason: str) -> None:
    result = run(abench, tmp_path / "results", task, settings_of(task, tmp_path))
    assert result.code == 0, result.err
    records = [json.loads(file.read_text()) for file in (tmp_path / "results").glob("cells/*/*/*/*.json")]
    assert [record["status"] for record in records] == ["skipped"]
    assert re.search(reason, records[0]["reason"])
    assert "training" not in result.err
    assert not list((tmp_path / "results" / "saes").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (SparseProbing(datasets=(NEWS,)), "the train split of fancyzhx/ag_news has 3 texts with label 0"),
        (TPP(datasets=(NEWS,)), "the train split of fancyzhx/ag_news has 3 texts with label 0"),
    ],
)
def test_few_texts_of_the_hub_are_a_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task, reason: str
) -> None:
    write_news(tmp_path / NEWS, news(each=3), news(each=3))
    serve(tmp_path, monkeypatch)
    found = reason_to_skip(task, None, context_of())
    assert found is not None and found.startswith(reason)


@pytest.mark.usefixtures("hub")
def test_few_texts_of_a_pair_are_a_skip() -> None:
    for name in (f"{BIOS}_class_set1", AMAZON):
        found = reason_to_skip(SCR(datasets=(name,), train=10**6), None, context_of())
        assert found is not None and f"the train split of {name.removesuffix('_class_set1')} has " in found


@pytest.mark.usefixtures("hub")
def test_what_was_read_to_see_whether_it_is_enough_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from abench.tasks._shared import hub_splits

    read: list[str] = []
    load = hub_splits.load_hub_split

    def listed(name: str, *more: Any) -> Any:
        read.append(name)
        return load(name, *more)

    monkeypatch.setattr(hub_splits, "load_hub_split", listed)
    task, ctx = TPP(datasets=(NEWS,), train=8, test=8), context_of()
    with_memory = Context(ctx.site, ctx.evaluation, ctx.data, ctx.context_size, memory={})
    assert reason_to_skip(task, None, with_memory) is None and len(read) == 2
    assert reason_to_skip(task, None, with_memory) is None and len(read) == 2
    assert reason_to_skip(task, None, ctx) is None and len(read) == 4


def test_data_that_cannot_be_read_fail_before_training(abench: Abench, tmp_path: Path) -> None:
    file = tmp_path / "bodies.jsonl"
    file.write_text('{"body": "it is known that fluvexin causes laughing and nothing else at all."}\n')
    settings = [f"task_options.unlearning.forget_text={file}"]
    result = run(abench, tmp_path / "results", "unlearning", settings)
    assert result.code == 3 and "has no column 'text'" in result.err
    assert "training" not in result.err
    assert not list((tmp_path / "results" / "saes").rglob("*.safetensors"))
    file.write_text(file.read_text().replace("body", "text") * 900)
    sizes = ["task_options.unlearning.orders=1", "evaluation.limit=8"]
    again = run(abench, tmp_path / "results", "unlearning", [*settings, *sizes])
    assert again.code == 0, again.err
