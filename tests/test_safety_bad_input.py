"""Bad input to the steering tasks through `abench run`: one sentence, its cell marked, the run goes on."""

import json
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Says, chat_server, without_proxies
from command import SMALL, Abench, Result

from abench.tinyworld import MODEL_DIR, World

TASK_SIZES: dict[str, dict[str, Any]] = {
    "safety_utility": {
        "strengths": [0.5],
        "candidates": 2,
        "screen_requests": 2,
        "finer": 1,
        "controls": 1,
    },
    "bidirectionality": {"latents": 6, "validation": 6},
    "autointerp": {
        "latents": 4,
        "validation": 6,
        "more_than": 3,
        "top_shown": 2,
        "weighted_shown": 0,
        "top_tested": 1,
        "weighted_tested": 0,
        "inactive_tested": 2,
        "around": 2,
    },
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    without_proxies(monkeypatch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A results folder to copy, so that an SAE is trained once."""
    yield tmp_path_factory.mktemp("trained") / "results"


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Iterator[Path]:
    if trained.exists():
        shutil.copytree(trained, tmp_path / "results")
    yield tmp_path / "results"
    if not trained.exists():
        shutil.copytree(tmp_path / "results" / "saes", trained / "saes")
        shutil.copy(tmp_path / "results" / "abench.json", trained)


def run(abench: Abench, results: Path, task: str, *more: str, **options: Any) -> Result:
    """One SAE, the task and after it `core`."""
    chosen = TASK_SIZES[task] | options
    settings = [f"--set=task_options.{task}.{name}={json.dumps(value)}" for name, value in chosen.items()]
    sizes = ("--variants", "topk", "--k", "8", "--limit", "4", *SMALL)
    return abench("run", *sizes, "--tasks", f"{task},core", *settings, *more, "--results", results)


def endpoint(server: ChatServer) -> dict[str, Any]:
    return {
        "judge": "openai",
        "judge_model": "m",
        "judge_url": server.base_url,
        "judge_key": "JUDGE_KEY",
    }


def check_marked(result: Result, results: Path, task: str, sentence: str) -> None:
    """The task's cell failed with this sentence and nothing else, `core` is done, all files are whole."""
    assert result.code == 3, result.err
    assert "Traceback" not in result.err
    records = [json.loads(file.read_text()) for file in results.glob("cells/*/*/*/*.json")]
    by_task = {record["labels"]["task"]: record for record in records}
    assert by_task["core"]["status"] == "done"
    failed = by_task[task]
    assert (failed["status"], failed["scores"], failed["details"]) == ("failed", {}, {})
    assert sentence in failed["reason"] and "\n" not in failed["reason"]
    assert "Error" not in failed["reason"]
    assert any(line.startswith("failed: ") and sentence in line for line in result.err.splitlines())
    assert sentence in (results / "reports/default/index.html").read_text().replace("&#39;", "'")
    assert not list(results.rglob(".*")), "something half-written"
    assert not list((results / "leases").glob("*"))


@pytest.mark.parametrize("task", [*TASK_SIZES])
def test_a_missing_key_is_noticed_before_anything_is_asked(
    abench: Abench, results: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    with chat_server(Says("no" if task == "safety_utility" else "NONE")) as server:
        result = run(abench, results, task, **endpoint(server))
        check_marked(result, results, task, "the environment variable JUDGE_KEY is not set")
        assert not server.asked and "unsteered: utility" not in result.err
        monkeypatch.setenv("JUDGE_KEY", "sk-secret")
        again = run(abench, results, task, **endpoint(server))
        assert again.code == 0 and server.asked
    assert "1 cell computed, 1 from the results folder" in again.out


@pytest.mark.parametrize("task", [*TASK_SIZES])
@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        (Says(body="<html>\nhello</html>"), "no chat completion but '<html> hello</html>' (not JSON)"),
        (Says("It depends."), "the judge m gave no "),
    ],
)
def test_an_endpoint_that_answers_nonsense(
    abench: Abench, results: Path, task: str, says: Says, sentence: str
) -> None:
    with chat_server(says) as server:
        result = run(abench, results, task, **endpoint(server))
        page = sentence if "<" not in sentence else "returned no chat completion but"
        check_marked(result, results, task, page)
    (failed,) = (line for line in result.err.splitlines() if line.startswith("failed: "))
    assert sentence in failed
    # AutoInterp reads anything as an explanation, and then asks twice for numbers.
    asked = {"safety_utility": 2 * 4, "bidirectionality": 2 * 6, "autointerp": 3 * 6}
    assert len(server.asked) == (1 if says.body else asked[task])


def test_a_strength_that_breaks_the_model_costs_itself_alone(abench: Abench, results: Path) -> None:
    result = run(abench, results, "safety_utility", strengths=[0.5, 1e38])
    assert result.code == 0, result.err
    told = " ".join(result.out.split())
    assert told.count("Excluded because logits were not finite: strength −1e+38, 1e+38.") == 2
    assert "nan" not in told.casefold()
    (file,) = results.glob("cells/*/*/*/safety_utility*.json")
    details = json.loads(file.read_text())["details"]["steering"]
    broken = [row["strength"] for row in details["sae"]["settings"] if set(row) == {"candidate", "strength"}]
    assert broken == [-1e38, 1e38] * 2
    assert any(row["strength"] == 0.5 and "utility" in row for row in details["sae"]["settings"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"utility_task": "mmlu_abstract_algebr"},
            "lm-eval has no task, group or tag 'mmlu_abstract_algebr'",
        ),
        ({"utility_data": "here"}, "the option utility_data has no effect on the tiny world's own questions"),
        (
            {"utility_task": "mmlu_anatomy", "utility_data": "nowhere"},
            "utility_data: there is no folder nowhere",
        ),
    ],
)
def test_questions_that_are_not_there(
    abench: Abench, results: Path, options: dict[str, Any], sentence: str
) -> None:
    result = run(abench, results, "safety_utility", **options)
    check_marked(result, results, "safety_utility", sentence)
    assert "unsteered: utility" not in result.err


# A model, texts and requests of one's own


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, texts to train on, and requests that are all right."""
    shutil.copytree(MODEL_DIR, tmp_path / "mine")
    texts = (" ".join(document.words) for document in islice(World().documents("train"), 3000))
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    write_requests(tmp_path, [f"do harm {n}" for n in range(100)], [f"do good {n}" for n in range(100)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_requests(folder: Path, harmful: list[str], harmless: list[str]) -> None:
    (folder / "harmful.csv").write_text("\n".join(["Behavior", *harmful]) + "\n")
    (folder / "harmless.csv").write_text("\n".join(["prompt", *harmless]) + "\n")


OWN = ("--model", "mine", "--set", "data.source=file", "--set", "data.dataset=texts.txt", "--set")


@pytest.mark.parametrize(
    ("harmful", "harmless", "sentence"),
    [
        (
            [f"do harm {n} " + "again " * 250 for n in range(60)],
            [f"do good {n}" for n in range(60)],
            "safety_utility, harmful requests: prompt 1 of 4 has ",
        ),
        (
            [f"do harm {n}" for n in range(60)],
            [f"do good {n} " + "again " * 250 for n in range(60)],
            "safety_utility, harmless requests: prompt 1 of 4 has ",
        ),
    ],
)
def test_requests_that_will_not_do(
    abench: Abench, own: Path, harmful: list[str], harmless: list[str], sentence: str
) -> None:
    write_requests(own, harmful, harmless)
    options = {
        "harmful": "harmful.csv",
        "harmless": "harmless.csv",
        "judge": "substring",
        "max_new_tokens": 8,
    }
    given = (*OWN, "data.held_out_documents=300")
    result = run(abench, own / "results", "safety_utility", *given, **options)
    check_marked(result, own / "results", "safety_utility", sentence)
    assert "unsteered: utility" not in result.err
