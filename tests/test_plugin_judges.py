"""Judges in folders: listed, used by a task, part of the key of its cells, and checked."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from command import SMALL, Abench

from abench import Excerpt, LatentContexts
from abench.errors import UserError
from abench.judges import (
    Exchange,
    JudgeOption,
    OwnJudge,
    OwnPoleJudge,
    PoleVerdict,
    own_judge,
    own_pole_judge,
    registry,
)
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
    'name: ClassVar[str] = "oracle"': "its name: 'oracle' is the tiny world's own judge",
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
        "judges": "replies",
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


def test_the_documented_judge_of_latents_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "judges.md").read_text(encoding="utf-8")
    source = page.split("asks judges of latents")[1].split("```python\n")[1].split("```")[0]
    registry.use_judges_in([folder_with(tmp_path, own=source)])
    cat, dog = Excerpt(("cat",), (1.0,), 0), Excerpt(("dog",), (1.0,), 0)
    sides = (((cat, cat), (dog,)), ((cat, dog), (dog,)), ((cat, dog), ()))
    verdicts = own_pole_judge("same_word").judge([LatentContexts(0, *each) for each in sides])
    assert [each.kind for each in verdicts] == ["bidirectional", "unidirectional", "none"]


POLE_JUDGE = '''
from typing import ClassVar

from abench.judges import OwnPoleJudge


class Strict(OwnPoleJudge):
    """A latent has two sides if both have contexts."""

    name: ClassVar[str] = "strict"

    def verdicts(self, latents):
        return ["bidirectional" if each.positive and each.negative else "none" for each in latents]
'''


class Two(OwnPoleJudge):
    """Returns what it is given."""

    name: ClassVar[str] = "two"
    returned: tuple[Any, ...] = ()

    def verdicts(self, latents: Sequence[LatentContexts]) -> Any:
        return self.returned


def test_verdicts_on_latents_are_checked() -> None:
    latents = [LatentContexts(0, (), ())]
    assert Two(returned=("none",)).judge(latents) == [PoleVerdict("none")]
    assert Two(returned=(PoleVerdict("opposites", "a", "b"),)).judge(latents)[0].positive == "a"
    with pytest.raises(UserError, match="returned 0 verdicts on 1 latents"):
        Two().judge(latents)
    for wrong in ("harmful", 3, PoleVerdict("some")):  # type: ignore[arg-type]
        with pytest.raises(UserError, match="which is none of opposites, bidirectional"):
            Two(returned=(wrong,)).judge(latents)


def test_a_judge_of_the_other_kind_is_refused(tmp_path: Path, abench: Abench) -> None:
    folder_with(tmp_path, shy=JUDGE, strict=POLE_JUDGE)
    options = ("run", "--dry-run", "--plugins", tmp_path, "--tasks")
    chosen = {("safety_utility", "strict"): "latents", ("bidirectionality", "shy"): "replies"}
    for (task, judge), judges in chosen.items():
        refused = abench(*options, task, "--set", f"task_options.{task}.judge={judge}")
        assert refused.code == 2 and f"the judge '{judge}' judges {judges}, and a judge of" in refused.err
        ok = abench(
            *options, task, "--set", f"task_options.{task}.judge={'strict' if judge == 'shy' else 'shy'}"
        )
        assert ok.code == 0, ok.err
    with pytest.raises(UserError, match="derive it from abench"):
        own_pole_judge("shy")
    further = (
        "bidirectionality",
        "--set",
        "task_options.bidirectionality.judges=[oracle, 'openai:m', strict]",
    )
    assert abench(*options, *further).code == 0
    wrong = ("bidirectionality", "--set", "task_options.bidirectionality.judges=[oracle, 'oracle:m']")
    assert "there is no judge 'oracle:m'" in abench(*options, *wrong).err


def test_a_judge_of_latents_of_a_folder_is_in_the_key_and_judges(tmp_path: Path, abench: Abench) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    folder_with(folder, strict=POLE_JUDGE)
    task = "task_options.bidirectionality"
    own = (
        "--set",
        f"{task}.judge=strict",
        "--set",
        f"{task}.judges=[oracle]",
        "--set",
        f"{task}.validation=0",
    )
    where = ("--plugins", folder, "--results", tmp_path / "results", "--limit", "40")
    line = ("run", "--variants", "topk", "--k", "4", *SMALL, "--tasks", "bidirectionality", *own, *where)
    run = abench(*line)
    assert run.code == 0, run.err
    assert "Judged by strict" in run.out
    (file,) = (tmp_path / "results" / "cells").rglob("*.json")
    poles = json.loads(file.read_text(encoding="utf-8"))["details"]["poles"]
    assert (poles["judge"], poles["agreement"][0]["judge"]) == ("strict", "oracle")
    assert set(poles["verdicts"].values()) <= {"bidirectional", "none"}
    folder_with(folder, strict=POLE_JUDGE + "\n# changed\n")
    assert "1 missing" in abench("status", *line[1:]).out


def test_the_code_of_every_named_judge_is_an_identity(tmp_path: Path) -> None:
    registry.use_judges_in([folder_with(tmp_path, strict=POLE_JUDGE, shy=JUDGE)])
    option = JudgeOption("oracle", "openai:", of=OwnPoleJudge)
    assert option.identity(("oracle", "openai:m")) is None
    strict = option.identity("strict")
    assert strict and option.identity(("oracle", "strict")) == strict


@pytest.mark.slow
@pytest.mark.parametrize("judged", ["replies", "latents"])
def test_a_new_judge_passes_its_test_and_is_listed(tmp_path: Path, abench: Abench, judged: str) -> None:
    new = ("new", "judge", "my_judge", "--of", judged, "--dir", tmp_path / "mine")
    written = abench(*new)
    task = {"replies": "safety_utility", "latents": "bidirectionality"}[judged]
    assert written.code == 0 and f"--tasks {task} --set task_options.{task}.judge=my_judge" in written.out
    assert abench(*new).code == 2
    for taken in ("openai", "oracle", "auto"):
        assert "is taken by a judge that comes with abench" in abench("new", "judge", taken).err
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    tested = subprocess.run([*command, tmp_path / "mine"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0 and "1 passed" in tested.stdout, tested.stdout + tested.stderr
    (row,) = (
        row
        for row in json.loads(abench("list", "judges", "--plugins", tmp_path / "mine", "--json").out)
        if row["name"] == "my_judge"
    )
    assert (row["state"], row["judges"]) == ("ok", judged)
    dry = ("--tasks", task, "--set", f"task_options.{task}.judge=my_judge", "--plugins", tmp_path / "mine")
    assert abench("run", "--dry-run", *dry).code == 0
