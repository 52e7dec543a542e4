"""RAVEL on the user's own prompts: a folder in RAVEL's layout, and a table."""

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from abench.tasks.ravel.own_prompts import attributes_in, own_prompts
from abench.tasks.ravel.prompts import folder_prompts, tiny_prompts
from ravel_files import ATTRIBUTES, write
from signed import random_sae

from abench import Context, LanguageModel, Task, UserError
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.runs.inputs import input_hashes
from abench.task import checked, parted, reason_to_skip
from abench.tinyworld import MODEL_DIR

CITY = ("country", "continent")
TINY = DataSpec(source="tinyworld", dataset=None)
SMALL = {"pairs": 40, "entities": 20, "epochs": 1}


def table(path: Path) -> str:
    """The tiny world's prompts about cities as a table."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["kind", "entity", "attribute", "prompt", "label"])
        for p in tiny_prompts("city", CITY):
            writer.writerow([p.kind, p.entity, p.attribute, f"{p.before}%s{p.after}", p.label])
    return str(path)


def ravel(**options: Any) -> Task:
    return get_task("ravel", {**SMALL, **options}, find_tasks())


@torch.no_grad()
def scored(task: Task, lm: LanguageModel) -> Mapping[str, float]:
    sae = random_sae("abstopk")
    context = Context("blocks.0.hook_resid_post", EvaluationSpec(seed=3), TINY, 128, saes=(sae,), memory={})
    assert reason_to_skip(task, lm, context) is None
    with torch.enable_grad():
        return checked(task, parted(task, task.score(sae, task.prepare(lm, context), lm, context))[0])


def test_a_table_of_the_tiny_world_s_prompts_gives_its_scores(tmp_path: Path) -> None:
    lm = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    mine, builtin = ravel(prompts=table(tmp_path / "mine.csv")), ravel(attributes={"city": CITY})
    assert scored(mine, lm) == scored(builtin, lm)


def test_a_folder_in_ravel_s_layout(tmp_path: Path) -> None:
    write(tmp_path / "mine")
    found = attributes_in(tmp_path / "mine")
    assert set(found) == set(ATTRIBUTES)
    assert set(ATTRIBUTES["city"]) <= set(found["city"])
    prompts = own_prompts(tmp_path / "mine", "city", ATTRIBUTES["city"])
    assert prompts == folder_prompts(tmp_path / "mine", "city", ATTRIBUTES["city"])


def test_prompts_are_in_the_key_only_if_given(tmp_path: Path) -> None:
    assert "prompts" not in ravel().model_dump(mode="json")
    task = ravel(prompts=table(tmp_path / "mine.csv"))
    before = input_hashes(task)
    assert set(before) == {"prompts"}
    (tmp_path / "mine.csv").write_text("other")
    assert input_hashes(task) != before


HEAD = "entity,attribute,prompt,label\n"
BAD = [
    ("absent.csv", None, "ravel: the data file .*absent.csv does not exist"),
    ("mine.csv", HEAD, "mine.csv has no rows"),
    (
        "mine.csv",
        "entity,attribute,label\nRome,country,Italy\n",
        "row 1 has no column 'prompt'; it has entity",
    ),
    ("mine.csv", HEAD + "Rome,country,%s is in,\n", "row 1 is empty in column 'label': text is needed"),
    (
        "mine.csv",
        HEAD + "Rome,country,Rome is in,Italy\n",
        "row 1 must have %s exactly once in column 'prompt'",
    ),
    (
        "mine.csv",
        HEAD + "Rome,country,%s is in,Italy\n",
        "has 1 attribute of the kind 'entity'; at least two",
    ),
    (
        "mine.jsonl",
        json.dumps({"entity": 5, "attribute": "a", "prompt": "%s", "label": "x"}),
        "has 5 in column",
    ),
    ("folder", None, r"folder has no file ravel_KIND_attribute_to_prompts.json"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_a_mistake_is_a_sentence(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    if name == "folder":
        (tmp_path / name).mkdir()
    context = Context("blocks.1.hook_resid_post", EvaluationSpec(), TINY, 128)
    with pytest.raises(UserError, match=message):
        ravel(prompts=str(tmp_path / name)).skip(None, replace(context, memory={}))
