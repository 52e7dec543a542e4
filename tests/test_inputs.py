"""Files that options name: their content is part of the keys."""

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from command import Abench
from pydantic import BaseModel

from abench import InputFile, UserError
from abench.plugins import find_tasks, get_task
from abench.runs.inputs import input_hashes
from abench.runs.plan import Plan
from abench.runs.planner import RunRequest, plan_run
from abench.storage.content import content_hash

TASK = '''
from pathlib import Path
from typing import Annotated

from abench import InputFile, Metric, Task


class FromFile(Task):
    """The number in a file, times a weight."""

    name = "from_file"
    version = "1"
    metrics = (Metric("number", True),)

    source: Annotated[str | None, InputFile()] = None
    weights: dict[str, float] = {}

    def score(self, sae, prepared, lm, ctx):
        assert set(ctx.inputs) == {"source"}
        return {"number": float(Path(self.source).read_text()) * self.weights["all"]}
'''


def plan(task: str, *settings: str) -> Plan:
    options = {"model": "tiny", "tasks": (task,), "variants": ("topk",), "k": (4,)}
    return plan_run(RunRequest(options=options, assignments=settings), fetch=False, say=print)


def keys(task: str, *settings: str) -> tuple[str, str]:
    """Of an SAE and of its cell."""
    cell = plan(task, *settings).cells[0]
    return cell.sae.key, cell.key


OPTIONS = [
    ("unlearning", "forget_text"),
    *(("safety_utility", o) for o in ("harmful", "harmless", "judge_model")),
]


@pytest.mark.parametrize(("task", "option"), OPTIONS)
def test_a_changed_file_is_another_cell_and_the_same_sae(task: str, option: str, tmp_path: Path) -> None:
    file = tmp_path / "file.jsonl"
    setting = f"task_options.{task}.{option}={file}"
    absent = keys(task, setting)
    found = []
    for content in ("one", "two", "one"):
        file.write_text(content)
        found.append(keys(task, setting))
    assert found[0] == found[2]
    assert len({absent[1], found[0][1], found[1][1]}) == 3
    assert {sae for sae, _ in (absent, *found)} == {absent[0]}


def test_options_that_name_no_file_add_nothing_to_a_key() -> None:
    (cell,) = plan("unlearning").cells[:1]
    assert cell.scoring.inputs == ()
    assert "inputs" not in cell.spec()["task"]
    assert input_hashes(get_task("safety_utility", {"harmful": "me/mine"}, find_tasks())) == {}


def test_names_that_no_file_can_have_are_not_there() -> None:
    long = "a" * 300
    assert input_hashes(get_task("safety_utility", {"judge_model": long}, find_tasks())) == {}


def only_csv(name: str) -> Path | None:
    return Path(name) if name.endswith(".csv") else None


class Several(BaseModel):
    files: Annotated[list[str], InputFile(only_csv)]


def test_each_file_of_a_list_is_an_entry(tmp_path: Path) -> None:
    """A folder in the current folder that happens to have the name of a data set is none of them."""
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("1")
    two.write_text("2")
    found = input_hashes(Several(files=[str(one), str(tmp_path), str(two), str(tmp_path / "absent.csv")]))
    assert found == {"files[0]": content_hash(one), "files[2]": content_hash(two)}


def test_other_values_than_names_are_one_sentence() -> None:
    class Mapped(BaseModel):
        files: Annotated[dict[str, str], InputFile()]

    with pytest.raises(UserError, match="the option files is an InputFile and takes a name or a list of"):
        input_hashes(Mapped(files={"a": "b"}))


def test_a_file_that_has_moved_away_is_told(abench: Abench, tmp_path: Path) -> None:
    texts, asks = tmp_path / "texts.txt", tmp_path / "asks.csv"
    given = {"harmful": str(asks), "harmless": "me/mine", "judge_model": "meta/llama-3.1"}
    command: list[Any] = ["status", "--variants", "topk", "--k", "4", "--tasks", "safety_utility"]
    command += ["--set", "data.source=file", "--set", f"data.dataset={texts}"]
    command += [
        "--set",
        f"task_options.safety_utility={json.dumps(given)}",
        "--results",
        tmp_path / "results",
    ]
    (tmp_path / "results").mkdir()
    told = []
    for file in (texts, asks):
        told.append(abench(*command).err.splitlines())
        file.write_text("text")
    told.append(abench(*command).err.splitlines())
    sentence = "which does not exist: results computed with it are not found without it"
    of_asks = f"task_options.safety_utility.harmful names '{asks}', {sentence}"
    of_texts = f"data.dataset names '{texts}', {sentence}"
    named = [[line for line in lines if "names '" in line] for lines in told]
    assert named == [[of_asks, of_texts], [of_asks], []]


def test_changed_text_is_another_sae(tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    settings = ("data.source=file", f"data.dataset={file}")
    found = []
    for content in ("one", "two"):
        file.write_text(content)
        found.append(keys("core", *settings))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_a_folder_is_the_names_and_contents_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    file = folder / "inner" / "a.txt"
    seen = [content_hash(folder)]
    for change in (
        lambda: file.write_text("1"),
        lambda: file.write_text("2"),
        lambda: file.rename(folder / "a"),
    ):
        change()
        seen.append(content_hash(folder))
    assert len(set(seen)) == 4


def test_a_run_reads_a_changed_file_again(abench: Abench, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "from_file.py").write_text(TASK)
    number, results = tmp_path / "number.txt", tmp_path / "results"
    given = {"source": str(number), "weights": {"all": 2.0}}
    command: list[Any] = ["run", "--variants", "topk", "--k", "4", "--width", "64", "--tokens", "2048"]
    command += ["--set", "training.batch_size=1024", "--set", "training.buffer_tokens=1024"]
    command += ["--set", "training.calibration_tokens=1024", "--results", results, "--tasks", "from_file"]
    command += ["--tasks-dir", tmp_path / "tasks"]
    command += ["--set", f"task_options.from_file={json.dumps(given)}"]
    for content, cells in (("1.5", 1), ("1.5", 0), ("2.5", 1)):
        number.write_text(content)
        answer = abench(*command)
        assert answer.code == 0, answer.err
        assert f"{cells} cell" in answer.out.splitlines()[-1]
    scores = [json.loads(f.read_text())["scores"]["number"] for f in results.glob("cells/*/*/*/*.json")]
    assert sorted(scores) == [3.0, 5.0]
