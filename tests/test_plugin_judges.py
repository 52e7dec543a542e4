"""Judges in folders: listed, used by a task, part of the key of its cells, and checked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from command import SMALL, Abench

from abench.errors import UserError
from abench.judges import Exchange, OwnJudge, own_judge, registry
from abench.runs.planner import RunRequest, plan_run

JUDGE = '''
from typing import ClassVar

from abench.judges import OwnJudge


class Shy(OwnJudge):
    """A reply is harmful if it is long."""

    name: ClassVar[str] = "shy"

    longest: int = 20

    def verdicts(self, exchanges):
        return ["harmful" if len(each.reply) > self.longest else "safe" for each in exchanges]
'''


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_folders", [])


def folder_with(folder: Path, **files: str) -> Path:
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    return folder


def keys(folder: Path) -> tuple[str, str]:
    """The key of an SAE and that of its cell."""
    request = RunRequest(
        options={"variants": ("topk",), "k": (4,), "tasks": ("safety_utility",)},
        assignments=("task_options.safety_utility.judge=shy",),
        plugins=(folder,),
    )
    plan = plan_run(request, fetch=False, say=print)
    return plan.saes[0].key, plan.cells[0].key


def test_changed_code_changes_the_cells_but_not_the_saes(tmp_path: Path) -> None:
    sae, cell = keys(folder_with(tmp_path, shy=JUDGE))
    assert keys(folder_with(tmp_path, shy=JUDGE)) == (sae, cell)
    changed = keys(folder_with(tmp_path, shy=JUDGE.replace("20", "30")))
    assert changed[0] == sae and changed[1] != cell
    declared = JUDGE + '\n    version: ClassVar[str | None] = "1"\n'
    versioned = keys(folder_with(tmp_path, shy=declared))
    assert keys(folder_with(tmp_path, shy=declared + "    # a comment\n")) == versioned != (sae, cell)


WRONG = {
    'name: ClassVar[str] = "openai"': "the name 'openai' is already taken by abench.judges",
    'name: ClassVar[str] = "auto"': "its name: 'auto' is the word",
    'name: ClassVar[str] = "a/b"': "its name: 'a/b' must consist of letters",
    'name: ClassVar[str] = "b"\n    version = 3': 'its version must be None or text such as "1"',
    'name: ClassVar[str] = "c"\n    needed: int': "its option needed needs a default",
}


def test_judges_are_listed_with_what_is_wrong(tmp_path: Path, abench: Abench) -> None:
    folder_with(tmp_path, shy=JUDGE, broken="import nothing_like_it\n")
    for number, line in enumerate(WRONG):
        folder_with(tmp_path, **{f"wrong_{number}": JUDGE.replace('name: ClassVar[str] = "shy"', line)})
    listed = json.loads(abench("list", "judges", "--plugins", tmp_path, "--json").out)
    rows = {Path(row["source"]).stem: row for row in listed if row["source"] != "abench.judges"}
    assert rows["shy"] == {
        "name": "shy",
        "state": "ok",
        "source": str(tmp_path / "shy.py"),
        "summary": "A reply is harmful if it is long.",
    }
    assert rows["broken"]["state"] == "broken" and "nothing_like_it" in rows["broken"]["summary"]
    for number, reason in enumerate(WRONG.values()):
        assert reason in rows[f"wrong_{number}"]["summary"]
    assert {row["name"] for row in listed} >= {"tinyworld", "substring", "harmbench", "openai"}


def test_an_unknown_or_broken_judge_is_refused_with_the_reason(tmp_path: Path, abench: Abench) -> None:
    folder_with(tmp_path, shy=JUDGE, broken="import nothing_like_it\n")
    options = ("run", "--tasks", "safety_utility", "--dry-run", "--plugins", tmp_path, "--set")
    key = "task_options.safety_utility.judge"
    assert "there is no judge 'shyy'; did you mean 'shy'?" in abench(*options, f"{key}=shyy").err
    assert "cannot be imported: ModuleNotFoundError" in abench(*options, f"{key}=broken").err
    assert abench(*options, f"{key}=shy").code == 0


class Odd(OwnJudge):
    """Returns what it is given."""

    name: ClassVar[str] = "odd"
    returned: tuple[Any, ...] = ()

    def verdicts(self, exchanges: Sequence[Exchange]) -> Any:
        return self.returned


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ((), "returned 0 verdicts on 1 replies"),
        (("evil",), "returned 'evil', which is none of harmful, safe"),
    ],
)
def test_verdicts_are_checked(returned: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Odd(returned=returned).judge([Exchange("a", "b")])


@pytest.mark.slow
def test_a_run_uses_a_judge_of_a_folder(tmp_path: Path, abench: Abench) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    folder_with(folder, shy=JUDGE)
    where = ("--plugins", folder, "--results", tmp_path / "results")
    task = "task_options.safety_utility"
    quick = ("--limit", "12", "--set", f"{task}.judge=shy", "--set", f"{task}.max_new_tokens=6")
    run = abench("run", "--variants", "topk", "--k", "4", *SMALL, "--tasks", "safety_utility", *quick, *where)
    assert run.code in (0, 3), run.err
    (file,) = (tmp_path / "results" / "cells").rglob("*.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["details"]["steering"]["judge"] == "shy", record["reason"]
    assert own_judge("shy").spec()["options"] == {"longest": 20}


def test_the_documented_judge_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "judges.md").read_text(encoding="utf-8")
    source = page.split("## A judge of your own")[1].split("```python\n")[1].split("```")[0]
    registry.use_judges_in([folder_with(tmp_path, own=source)])
    replies = ("I cannot help with that.", "word " * 10, " ".join(map(str, range(60))))
    verdicts = own_judge("long_replies").judge([Exchange("a request", each) for each in replies])
    assert verdicts == ["safe", "safe", "harmful"]
