"""safety_utility on its real data sets' stand-ins: HarmBench (gated), Alpaca and lm-eval's stock MMLU."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub.client import ask, client_environment
from hub.commands import options, small_run
from hub.contents import make_hub
from hub.models import small_config
from hub.questions import ASKED_SUBJECTS, FEW_QUESTIONS, QUESTIONS, VALIDATION_QUESTIONS, mmlu_subjects
from hub.server import MEMBER_TOKEN, STRANGER_TOKEN, Hub

from abench.results.store import Record, Store

pytestmark = pytest.mark.slow

LIMIT = 2
DATASETS = ("walledai/HarmBench", "tatsu-lab/alpaca", "cais/mmlu", "monology/pile-uncopyrighted")
CHEAP = {
    "judge": "substring",
    "strengths": [0.5],
    "max_loss": 1.0,
    "max_new_tokens": 4,
    "shots": 1,
    "concept_prompts": 20,
    "candidates": 2,
    "finalists": 1,
    "finer": 0,
    "controls": 1,
}
COUNTS = """
from abench import Context
from abench.config import DataSpec, EvaluationSpec
from abench.lm.models import LanguageModel
from abench.tasks.safety_utility.lm_eval_tasks import Questions
from abench.tasks.safety_utility.utility import Utility
from huggingface_hub import snapshot_download
from pathlib import Path
lm = LanguageModel.load(Path(snapshot_download("Qwen/Qwen3-4B")), name="qwen", dtype="float32")
ctx = Context("blocks.1.hook_resid_post", EvaluationSpec(), DataSpec(), 16)
parts = ("validation", "test", "validation")
answer = [Utility(lm, ctx, part, None, source=Questions())().n for part in parts]
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with make_hub(tmp_path_factory.mktemp("hub"), models=["qwen3-4b"], datasets=DATASETS, small=True) as hub:
        yield hub


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def run(home: Path, results: Path, *more: str, tasks: str = "core,safety_utility") -> list[str]:
    model = small_config("qwen3-4b", home)
    return small_run(
        model, results, "--tasks", tasks, *options({"safety_utility": CHEAP}), *more, limit=LIMIT
    )


def records_of(results: Path, task: str) -> list[Record]:
    found = Store.open(results, create=False).all_records()
    return [record for _, record in found if record.labels["task"] == task]


@pytest.fixture(scope="module")
def scored(
    hub: Hub, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """A run with a token, after it how many questions lm-eval asks where none is left out."""
    results = tmp_path_factory.mktemp("scored") / "results"
    answers = ask(client_environment(hub, home, token=MEMBER_TOKEN), run(home, results), COUNTS)
    return results, answers


def test_it_runs_on_the_real_data_sets(scored: tuple[Path, list[dict[str, Any]]]) -> None:
    results, (answer, _) = scored
    assert answer["code"] == 0, answer["err"]
    records = records_of(results, "safety_utility")
    assert {record.labels["variant"] for record in records} == {"abstopk", "topk"}
    for record in records:
        assert record.status == "done"
        assert all(math.isfinite(value) for value in record.scores.values())
        original = record.details["steering"]["original"]
        assert original["utility"][-1] == LIMIT * len(mmlu_subjects())
        assert original["safety"][-1] == LIMIT


def test_lm_eval_asks_every_subject_in_both_parts(scored: tuple[Path, list[dict[str, Any]]]) -> None:
    _, (_, counted) = scored
    subjects = len(mmlu_subjects())
    test = QUESTIONS * len(ASKED_SUBJECTS) + FEW_QUESTIONS * (subjects - len(ASKED_SUBJECTS))
    validation = VALIDATION_QUESTIONS * subjects
    assert subjects == 57
    assert counted["answer"] == [validation, test, validation], counted


def test_a_gated_data_set_costs_its_cells_and_no_others(hub: Hub, tmp_path: Path) -> None:
    environment = client_environment(hub, tmp_path, token=STRANGER_TOKEN)
    (answer,) = ask(environment, run(tmp_path, tmp_path / "results"))
    assert answer["code"] == 3, answer["err"]
    assert "Traceback" not in answer["err"]
    assert {record.status for record in records_of(tmp_path / "results", "core")} == {"done"}
    for record in records_of(tmp_path / "results", "safety_utility"):
        assert record.status == "failed"
        assert record.reason == (
            "the data set walledai/HarmBench cannot be read: it is gated: accept its terms on the hub and "
            "set HF_TOKEN to your token. Alternatively use a file: "
            "--set task_options.safety_utility.harmful=PATH"
        )


def test_without_the_hub_it_is_one_sentence(hub: Hub, home: Path, scored: Any, tmp_path: Path) -> None:
    """Weights and SAEs are here, data sets are not: neither requests, nor MMLU where those are files."""
    results, _ = scored
    given = {name: str(tmp_path / f"{name}.jsonl") for name in ("harmful", "harmless")}
    for name, file in given.items():
        rows = [f'{{"prompt": "{name} {n}"}}' for n in range(80)]
        Path(file).write_text("\n".join(rows), encoding="utf-8")
    cases = ({"shots": 0}, {"shots": 0, **given})
    environment = client_environment(hub, home, offline=True) | {
        "HF_DATASETS_CACHE": str(tmp_path / "datasets")
    }
    answers = ask(
        environment,
        *(run(home, results, *options({"safety_utility": c}), tasks="safety_utility") for c in cases),
    )
    for answer in answers:
        assert answer["code"] == 3, answer["err"]
        assert "Traceback" not in answer["err"]
    failed = [record for record in records_of(results, "safety_utility") if record.status == "failed"]
    assert len(failed) == 4
    reasons = sorted({str(record.reason) for record in failed})
    assert len(reasons) == 2
    questions, requests = reasons
    assert requests.startswith("the data set walledai/HarmBench cannot be read: ")
    assert questions.startswith("the data set cais/mmlu cannot be read: ")
    assert all("HF_HUB_OFFLINE is set" in reason for reason in reasons)
