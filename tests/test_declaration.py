"""Tasks of strangers are looked at when they are found; their names never lead out of the results folder."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from command import Abench
from hypothesis import given
from hypothesis import strategies as st

from abench import Context, Metric, Scores, Task
from abench.config import RunConfig
from abench.declaration import declaration_problems
from abench.discovery import add, from_file
from abench.errors import UserError
from abench.lm.catalogue import find_model
from abench.names import NAME_LENGTH, name_problem, path_part, safe_name
from abench.plugins import TASKS, FoundTask, find_tasks, get_task
from abench.results.store import Record, Store
from abench.task import ScoreError, checked, parted
from abench.variants import register
from abench.variants.topk import TopK

GOOD = '''
from typing import Any, ClassVar

from abench import Metric, Task


class Mine(Task):
    """A task."""

    name = "mine"
    version = "1"
    metrics = (Metric("share", True, headline=True),)

    def score(self, sae, prepared, lm, ctx):
        return {"share": 1.0}
'''

WRONG = {
    'name = "../../../x"': "its name: '../../../x' must consist of letters",
    'name = "con"': "'con' is the name of a device",
    'name = "x" * 300': "it has 300 characters",
    "name = 3": "it must be text, not int",
    'version = ""': "its version must be text",
    "version = 1": "its version must be text",
    'version: str = "1"': "version is an option instead of a class variable",
    'metrics = (Metric("share", "higher"),)': "higher_is_better must be True, False or None, not 'higher'",
    'metrics = (Metric("share", 1),)': "higher_is_better must be True, False or None, not 1",
    'metrics = (Metric("share", True), Metric("share", True))': "it is declared twice",
    'metrics = (Metric("a,b", True),)': "without commas",
    'metrics = (Metric("task", True),)': "'task' is a column of reports",
    'metrics = (Metric("share", True, headline="no"),)': "headline must be True or False",
    'metrics = (Metric("share", True, title=None),)': "title must be text",
    'metrics = (Metric("share", True, description="a\\x1bb"),)': "description contains control characters",
    'metrics = (Metric("share", True, paper="score - 1"),)': "paper must be 'score', '1 - score' or None",
    'metrics = [Metric("share", True)]': "its metrics must be a tuple of abench.Metric, not list",
    'metrics = ("share",)': "its metrics must be abench.Metric, not 'share'",
    "metrics = ()": "it declares no metrics",
    'views = ("split",)': "its views must begin with 'native'",
    'views = "native"': "its views must be a tuple",
    'kinds = ("vision",)': "its kinds must be 'language' or 'synthetic', not 'vision'",
    'in_all = "yes"': "in_all must be True or False",
    'truth = "auroc"': "its truth must be the name of one of its metrics or None, not 'auroc'",
    "check_options = 3": "check_options must be a mapping",
    'limit: float = float("nan")': "its options cannot be written as JSON",
    "model_config = {'arbitrary_types_allowed': True}\n    thing: Any = object()": "cannot be written",
}


def changed(line: str) -> str:
    """The good task with one declaration made otherwise."""
    start = f"    {line.split('=')[0].split(':')[0].strip()} = "
    kept = [each for each in GOOD.splitlines() if not each.startswith(start)]
    return "\n".join([*kept, f"    {line}", ""])


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    for number, line in enumerate(WRONG):
        (folder / f"wrong_{number}.py").write_text(changed(line))
    return folder


def test_every_wrong_declaration_is_a_row_with_its_reason(wrong: Path) -> None:
    found = find_tasks([wrong])
    by_file = {Path(each.source).stem: each for each in found.values()}
    # Those that keep the name `mine` replace one another, as files of a folder do.
    assert by_file
    for number, reason in enumerate(WRONG.values()):
        (alone,) = [each for each in _found(wrong / f"wrong_{number}.py") if each.value is None]
        assert reason in alone.summary, alone
        assert name_problem(alone.name) is None
    assert found["core"].value is not None


def _found(file: Path) -> list[Any]:
    return list(from_file(TASKS, file))


def test_a_good_task_and_the_built_in_ones_have_no_problems(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    found = find_tasks([tmp_path])
    assert found["mine"].value is not None
    assert {name: each.problems for name, each in found.items() if each.problems} == {}


BROKEN = {
    "leaves": "print('hello')\nraise SystemExit('bye')",
    "own_kind": "class Mine(BaseException): ...\nraise Mine('no Exception')",
    "strange": """
from abench import Task
class Meta(type(Task)):
    @property
    def name(cls):
        raise RuntimeError("do not look")
class Strange(Task, metaclass=Meta):
    def score(self, *_): ...
""",
    "fine": GOOD,
}


def test_modules_that_exit_print_or_bite_cost_themselves_only(tmp_path: Path, abench: Abench) -> None:
    for name, text in BROKEN.items():
        (tmp_path / f"{name}.py").write_text(text)
    listed = abench("list", "tasks", "--tasks-dir", tmp_path, "--json")
    rows = {Path(row["source"]).stem: row for row in json.loads(listed.out)}
    assert listed.code == 0
    assert "hello" in listed.err
    assert rows["leaves"]["summary"] == "SystemExit: bye"
    assert "no Exception" in rows["own_kind"]["summary"]
    assert "do not look" in rows["strange"]["summary"]
    assert rows["fine"]["version"] == "1"


def test_a_wrong_task_is_refused_named_by_the_check_and_left_out_of_all(wrong: Path, abench: Abench) -> None:
    found = find_tasks([wrong])
    with pytest.raises(UserError, match=r"is declared incorrectly: "):
        get_task("mine", {}, found)
    check = abench("list", "tasks", "--tasks-dir", wrong, "--check", "--only", "mine")
    assert check.code == 3
    assert "declaration: " in check.out
    status = abench("run", "--tasks", "all", "--tasks-dir", wrong, "--dry-run")
    assert status.code == 0
    assert "task 'mine' (" in status.err
    assert "is skipped: it is declared incorrectly" in status.err


def test_an_installed_package_cannot_take_the_place_of_a_task() -> None:
    found = {"core": FoundTask("core", "abench.tasks.core", Scored)}
    add(found, FoundTask("core", "theirs.core", None, "Traceback\nImportError: no"))
    add(found, FoundTask("core", "theirs.other", TopTask))
    assert found["core"].value is Scored
    assert found["theirs.core"].summary == "ImportError: no"
    assert found["theirs.other"].summary == "the name 'core' is already taken by abench.tasks.core"


# Scores


class Scored(Task):
    """A task."""

    name: ClassVar[str] = "scored"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("a", True, headline=True),)

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Context) -> Scores:
        return {"a": 1.0}


class TopTask(Scored):
    """Another."""


@pytest.mark.parametrize(
    "value", [1, 0.5, np.float32(0.5), np.int64(3), torch.tensor(0.5), torch.tensor(2), np.array(1.5)]
)
def test_numbers_of_all_libraries_are_scores(value: Any) -> None:
    assert checked(Scored, {"a": value}) == {"a": float(value)}


@pytest.mark.parametrize(
    "value",
    [True, "0.5", None, np.bool_(True), torch.tensor(True), torch.zeros(1), [0.5], 1j, 10**400, object()],
)
def test_what_is_no_number_is_no_score(value: Any) -> None:
    with pytest.raises(ScoreError, match="task scored returned a as"):
        checked(Scored, {"a": value})


@pytest.mark.parametrize(
    "result", [None, 3, [("a", 1.0)], ({"a": 1.0}, 3), ({"a": 1.0}, {}, {}), ({"a": 1.0}, {"x": object()})]
)
def test_what_is_no_pair_of_scores_and_details_is_refused(result: Any) -> None:
    with pytest.raises(ScoreError, match="task scored"):
        parted(Scored, result)
    assert declaration_problems(Scored) == []


def test_undeclared_scores_of_any_type_are_named() -> None:
    with pytest.raises(ScoreError, match="does not declare: 3, b"):
        checked(Scored, {"a": 1.0, 3: 1.0, "b": 2.0})  # type: ignore[dict-item]


# Names


@given(st.text(max_size=150))
def test_safe_names_are_names_and_do_not_meet(text: str) -> None:
    name = safe_name(text)
    assert name_problem(name) is None
    assert (name == text) == (name_problem(text) is None)
    assert path_part(name) == name
    assert safe_name(f"{text}/") != name


@pytest.mark.parametrize(
    "name", ["con", "NUL", "com1.txt", "aux.", "..", ".hidden", "a/b", "a\\b", "", "é", "-x"]
)
def test_odd_names_become_safe_ones(name: str) -> None:
    assert name_problem(name) is not None
    assert name_problem(safe_name(name)) is None


def test_names_in_use_stay_as_they_are() -> None:
    for name in ("core", "qwen3-4b", "owner--Model-7B_v0.1", "my.model", "_x", "a" * NAME_LENGTH):
        assert safe_name(name) == name


def test_a_models_folder_or_file_of_any_name_gets_a_safe_one(tmp_path: Path, model_folder: Any) -> None:
    folder = tmp_path / "..my model (2)"
    folder.mkdir()
    for file in model_folder("pythia-70m").iterdir():
        (folder / file.name).symlink_to(file)
    name, _ = find_model(str(folder))
    assert name.startswith("my-model-2-")
    assert name_problem(name) is None


def test_a_variant_with_a_name_that_leads_elsewhere_is_not_registered() -> None:
    class Elsewhere(TopK):
        """A variant."""

        name: ClassVar[str] = "../../x"

    with pytest.raises(ValueError, match=r"cannot have this name: '\.\./\.\./x' must consist"):
        register(Elsewhere)


@pytest.mark.parametrize("name", ["a" * 300, "nul", "../x", ".x", "a b"])
def test_a_reports_name_is_checked_before_anything_is_done(name: str, tmp_path: Path, abench: Abench) -> None:
    result = abench("run", "--name", name, "--results", tmp_path / "results")
    assert result.code == 2
    assert "name: " in result.err
    assert list(tmp_path.iterdir()) == []
    assert RunConfig().name == "default"


@pytest.mark.parametrize("part", ["..", "a/b", "", "a\\b", "c:x", "a\x00b", "/etc"])
def test_no_record_leads_out_of_the_results_folder(part: str, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "results", create=True)
    labels = {"model": part, "site": "s", "variant": "topk", "k": 4, "width": 8, "seed": 0}
    with pytest.raises(UserError, match="cannot be part of a path"):
        store.sae_of(Record("k", "done", labels, [], sae_key="a" * 64))
    with pytest.raises(UserError, match="cannot be part of a path"):
        store.report_folder(part)
