"""Utility by any task of lm-eval, from a local folder, and requests from a folder with a file per part."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from abench.tasks.safety_utility import SafetyUtility
from abench.tasks.safety_utility.lm_eval_tasks import Questions, accuracy, guessing, use_part
from abench.tasks.safety_utility.requests import requests
from abench.tasks.safety_utility.utility import Utility
from signed import random_sae

from abench import Context, LanguageModel, UserError
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import MODEL_DIR

SITE = "blocks.2.hook_resid_post"
WORDS = ("cat", "dog", "sun", "sky", "red", "old", "new", "big")


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def context(source: str = "tinyworld", **changes: Any) -> Context:
    data = DataSpec(source="tinyworld", dataset=None) if source == "tinyworld" else DataSpec()
    return Context(SITE, EvaluationSpec(limit=20), data, 128, **changes)


def question(number: int) -> dict[str, Any]:
    choices = [f"{WORDS[(number + i) % 8]} {WORDS[(number // 8 + 3 * i) % 8]}" for i in range(4)]
    text = f"which {WORDS[number % 8]} is number {number}?"
    return {"question": text, "subject": "anatomy", "choices": choices, "answer": number % 4}


def folder_of(place: Path, **parts: int) -> str:
    """A folder in the layout of cais/mmlu, with one subject and this many questions per part."""
    (place / "anatomy").mkdir(parents=True)
    files = ["configs:", "- config_name: anatomy", "  data_files:"]
    first = 0
    for part, number in parts.items():
        rows = [question(n) for n in range(first, first + number)]
        pd.DataFrame(rows).to_parquet(place / "anatomy" / f"{part}-0.parquet")
        files += [f"  - split: {part}", f"    path: anatomy/{part}-*"]
        first += number
    (place / "README.md").write_text("\n".join(["---", *files, "---", ""]), encoding="utf-8")
    return str(place)


@pytest.fixture(scope="module")
def mmlu(tmp_path_factory: pytest.TempPathFactory) -> str:
    return folder_of(tmp_path_factory.mktemp("mmlu") / "cais", test=60, validation=12, dev=5)


@pytest.mark.parametrize("task", ["mmlu_anatomy", "mmlu_anatomy_continuation"])
def test_a_task_of_lm_eval_is_asked_from_a_folder(task: str, mmlu: str, lm: LanguageModel) -> None:
    parts = {
        part: Utility(lm, context(), part, most, 0, Questions(task, mmlu))  # type: ignore[arg-type]
        for part, most in (("validation", None), ("test", 40))
    }
    # In turn, because both parts share lm-eval's tasks.
    assert [parts[part]().n for part in ("validation", "test", "validation")] == [12, 40, 12]
    assert parts["test"].chance() == 0.25
    assert (parts["test"].amount().used, parts["validation"].amount().used) == (40, 12)


def test_the_share_is_that_of_the_most_likely_continuation(mmlu: str, lm: LanguageModel) -> None:
    """By log-probabilities written out, one forward pass per choice."""
    found = Utility(lm, context(), "validation", None, 0, Questions("mmlu_anatomy_continuation", mmlu))()
    about, right = "The following are questions (with answers) about anatomy.\n\n", 0
    for number in range(60, 72):
        each = question(number)
        start = f"{about}Question: {each['question']}\nAnswer:"
        scores = []
        for choice in each["choices"]:
            ids, whole = (lm.token_ids([text])[0] for text in (start, f"{start} {choice}"))
            tokens = torch.tensor([[lm.bos_id, *whole]])
            scores.append(float(lm.log_probs(tokens)[0, len(ids) :].sum()))
        right += max(range(4), key=lambda n: scores[n]) == each["answer"]
    assert (round(found.value * found.n), found.n) == (right, 12)


def test_a_single_part_is_divided_by_a_hash_of_the_questions(tmp_path: Path) -> None:
    whole = folder_of(tmp_path / "a", test=200, dev=5)
    [task] = Questions("mmlu_anatomy", whole).load().values()
    validation = {row["question"] for row in use_part(task, "validation")}
    test = {row["question"] for row in use_part(task, "test")}
    assert not validation & test and len(validation | test) == 200
    assert 30 <= len(validation) <= 90
    # More questions leave every question in its part.
    [more] = Questions("mmlu_anatomy", folder_of(tmp_path / "b", test=300, dev=5)).load().values()
    assert validation < {row["question"] for row in use_part(more, "validation")}


def test_guessing_is_right_as_often_as_there_are_choices() -> None:
    class Some:
        OUTPUT_TYPE = "multiple_choice"

        def doc_to_choice(self, doc: int) -> list[str]:
            return ["x"] * doc

    assert guessing(Some(), [2, 4]) == pytest.approx(0.375)
    Some.OUTPUT_TYPE = "generate_until"
    assert guessing(Some(), [2, 4]) == 0


def test_a_task_needs_a_share_of_correct_answers() -> None:
    class Some:
        def __init__(self, *metrics: str) -> None:
            self.aggregation = lambda: dict.fromkeys(metrics)

    assert accuracy(Some("acc_norm", "acc"), "x") == "acc"
    assert accuracy(Some("exact_match"), "x") == "exact_match"
    with pytest.raises(UserError, match=r"'x' has no share of correct answers .* only perplexity"):
        accuracy(Some("perplexity"), "x")


def test_data_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of lm-eval's task 'mmlu_anatomy' in .* cannot be read"):
        Questions("mmlu_anatomy", str(tmp_path)).load()


def test_a_utility_at_chance_is_measured_as_such(mmlu: str, lm: LanguageModel) -> None:
    measured: dict[str, float] = {}
    task = SafetyUtility(
        utility_task="mmlu_anatomy",
        utility_data=mmlu,
        shots=0,
        strengths=(0.5,),
        candidates=1,
        screen_requests=2,
        finer=0,
        controls=0,
        concept_prompts=20,
    )
    sae = random_sae("topk")
    ctx = context(measured=lambda name, value: measured.update({name: value}), saes=(sae,))
    with torch.no_grad():
        scores, details = task.score(sae, task.prepare(lm, ctx), lm, ctx)
    assert measured["utility_above_chance"] < 2
    assert measured["refusals"] > 0.2
    assert details["steering"]["utility_task"] == "mmlu_anatomy"
    assert details["steering"]["original"]["utility"][3] == 20
    assert 0 <= scores["coherent_utility"] <= 1


# Requests


def write(folder: Path, name: str, texts: list[str]) -> None:
    rows = [{"instruction": text, "category": None} for text in texts]
    (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")


def test_a_folder_has_a_file_for_each_part(tmp_path: Path) -> None:
    for kind in ("harmful", "harmless"):
        for part in ("train", "val", "test"):
            write(tmp_path, f"{kind}_{part}", [f"{kind} {part} {n}" for n in range(5)])
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        found = requests(
            context("hub"),
            part,  # type: ignore[arg-type]
            3,
            harmful=str(tmp_path),
            harmless=str(tmp_path),
        )
        assert [ask.text for ask in found.harmful] == [f"harmful {name} {n}" for n in range(3)]
        assert [ask.text for ask in found.harmless] == [f"harmless {name} {n}" for n in range(3)]


def test_a_folder_without_a_part_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, "harmful_train", ["one", "two"])
    with pytest.raises(
        UserError, match=r"has no harmful_val\.json; it must contain harmful_train.json, harm"
    ):
        requests(context("hub"), "validation", 3, harmful=str(tmp_path), harmless=str(tmp_path))
    assert SafetyUtility(harmful=str(tmp_path), judge="substring").all_repositories() == (
        "walledai/HarmBench",
        "tatsu-lab/alpaca",
        "cais/mmlu",
    )
