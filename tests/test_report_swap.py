"""Replacing a report: which files are whose, several writers at once, a kill at every step."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from abench.errors import UserError
from abench.report.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from abench.report.swap import replaced

FILES = {"index.html": "page", "data.csv": "numbers", "table.md": "table"}


def put(folder: Path, files: dict[str, str] = FILES) -> list[str]:
    """Write a report of these files; what was said of files that are kept."""
    with replaced(folder) as draft:
        for name, text in files.items():
            (draft.folder / name).write_text(text)
        _list(draft.folder)
    return draft.kept


def _list(folder: Path) -> None:
    from abench.storage.files import file_hash

    write_manifest(Manifest({file.name: file_hash(file) for file in folder.iterdir()}, {}), folder)


def texts(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir() if file.name != MANIFEST}


# Whose files


def test_files_that_the_new_report_does_not_have_go_whatever_their_names(tmp_path: Path) -> None:
    put(tmp_path / "r", FILES | {"a_figure_of_tomorrow.svg": "old", "bidirectionality.csv": "old"})
    put(tmp_path / "r", {name: f"new {text}" for name, text in FILES.items()})
    assert texts(tmp_path / "r") == {name: f"new {text}" for name, text in FILES.items()}


def test_a_file_that_was_changed_by_hand_is_kept_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    put(folder, FILES | {"tradeoff.csv": "old"})
    (folder / "table.md").write_text("with my remarks")
    (folder / "tradeoff.csv").write_text("with my column")
    (folder / "figure.png").write_text("mine")
    kept = put(folder, FILES | {"figure.png": "the report's"})
    assert texts(folder) == FILES | {
        "table.kept.md": "with my remarks",
        "tradeoff.csv": "with my column",
        "figure.png": "the report's",
        "figure.kept.png": "mine",
    }
    assert [sentence.rpartition(" ")[2] for sentence in kept] == ["figure.kept.png", "table.kept.md"]
    (folder / "table.md").write_text("with more remarks")
    put(folder)
    assert texts(folder)["table.kept.md"] == "with my remarks"
    assert texts(folder)["table.kept-2.md"] == "with more remarks"


@pytest.mark.parametrize("damage", ["gone", "cut", "not ours"])
def test_a_report_without_its_list_is_replaced_by_the_names_of_earlier_versions(
    tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "r"
    old = FILES | {"bidirectionality-a.csv": "old", "tradeoff.png": "old", "toy.pdf": "old"}
    put(folder, old | {"my_toy.pdf": "mine"})
    manifest = folder / MANIFEST
    if damage == "gone":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text()[:40] if damage == "cut" else '{"mine": true}')
    put(folder)
    kept = {} if damage == "gone" else {"report.kept.json"}
    assert set(texts(folder)) == {*FILES, "my_toy.pdf", *kept}


def test_links_and_folders_are_the_users(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "r", tmp_path / "elsewhere"
    elsewhere.mkdir()
    put(elsewhere / "report")
    folder.symlink_to(elsewhere / "report", target_is_directory=True)
    (folder / "sub").mkdir()
    (folder / "sub" / "notes.txt").write_text("mine")
    (folder / "table.md").unlink()
    (folder / "table.md").symlink_to(folder / "sub" / "notes.txt")
    put(folder)
    assert folder.is_symlink()
    assert (folder / "sub" / "notes.txt").read_text() == "mine"
    assert (folder / "table.kept.md").is_symlink()
    assert (folder / "table.md").read_text() == "table"


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    put(tmp_path / "r")
    with pytest.raises(OSError, match="No space"), replaced(tmp_path / "r") as draft:
        (draft.folder / "index.html").write_text("half")
        raise OSError(28, "No space left on device")
    assert texts(tmp_path / "r") == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_what_may_not_be_replaced_is_asked_again_before_the_swap(tmp_path: Path) -> None:
    put(tmp_path / "r")
    asked: list[Manifest | None] = []

    def check(old: Manifest | None) -> None:
        asked.append(old)
        if len(asked) == 2:
            raise UserError("it has changed meanwhile")

    with pytest.raises(UserError, match="meanwhile"), replaced(tmp_path / "r", check) as draft:
        (draft.folder / "index.html").write_text("new")
    assert asked == [read_manifest(tmp_path / "r")] * 2
    assert texts(tmp_path / "r") == FILES


# Several writers

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_report_swap import FILES, put
for number in range(int(sys.argv[3])):
    put(Path(sys.argv[2]), {name: f"{sys.argv[4]} {number}" for name in FILES})
"""


def test_processes_that_write_one_report_leave_one_whole_report_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    put(folder)
    (folder / "my_notes.txt").write_text("mine")
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(folder), "15"]
    writers = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE) for number in range(4)]
    errors = [writer.communicate()[1] for writer in writers]
    assert errors == [b""] * 4
    found = texts(folder)
    assert found.pop("my_notes.txt") == "mine"
    assert set(found) == set(FILES)
    assert len(set(found.values())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_living_writers_draft_is_left_alone(tmp_path: Path) -> None:
    with replaced(tmp_path / "r") as draft:
        put(tmp_path / "r")
        assert draft.folder.is_dir()
        (draft.folder / "index.html").write_text("later")
        _list(draft.folder)
    assert texts(tmp_path / "r") == {"index.html": "later"}


def test_a_draft_that_its_writer_throws_away_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = tmp_path / ".r.new-0123abcd"
    draft.mkdir()
    (draft / "alive").touch()
    mkdir = Path.mkdir

    def vanishing(folder: Path, *args: Any, **options: Any) -> None:
        if folder == draft:
            shutil.rmtree(draft)  # between the two looks that `mkdir(exist_ok=True)` takes
            raise FileExistsError(errno.EEXIST, "File exists", str(folder))
        mkdir(folder, *args, **options)

    monkeypatch.setattr(Path, "mkdir", vanishing)
    put(tmp_path / "r")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


# Kills


def _killed_at(step: int, act: Callable[[], object]) -> bool:
    """Run `act` in a child that is killed before its `step`-th change of a folder; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = iter(range(step))

        def watch(event: str, _arguments: tuple[object, ...]) -> None:
            if event in CHANGES and next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        act()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_step_loses_nothing_and_the_next_report_clears_up(tmp_path: Path) -> None:
    step, came_so_far = 0, True
    while came_so_far:
        folder = tmp_path / str(step) / "r"
        put(folder, FILES | {"stale.png": "old"})
        (folder / "my_notes.txt").write_text("mine")
        (folder / "sub").mkdir()
        (folder / "sub" / "more.txt").write_text("mine too")
        (folder / "table.md").write_text("with my remarks")
        new = {name: f"new {text}" for name, text in FILES.items()}
        came_so_far = _killed_at(step, lambda folder=folder, new=new: put(folder, new))  # type: ignore[misc]
        put(folder, new)
        files = {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}
        files.pop(MANIFEST)
        own = {"my_notes.txt": "mine", "table.kept.md": "with my remarks"}
        assert files == new | own, step
        assert (folder / "sub" / "more.txt").read_text() == "mine too"
        assert [path.name for path in folder.parent.iterdir()] == ["r"], step
        step += 1
    assert step > 12


def test_folders_that_earlier_versions_left_behind_are_mended(tmp_path: Path) -> None:
    put(tmp_path / "r")
    (tmp_path / "r" / MANIFEST).unlink()
    (tmp_path / "r" / "my_notes.txt").write_text("mine")
    (tmp_path / "r").rename(tmp_path / ".r.old-0123abcd")
    (tmp_path / ".r.new-0123abcd").mkdir()
    (tmp_path / ".r.new-0123abcd" / "index.html").write_text("half")
    os.utime(tmp_path / ".r.new-0123abcd", (0, 0))
    (tmp_path / ".r.x.new-0123abcd").mkdir()  # of a report r.x
    put(tmp_path / "r")
    assert texts(tmp_path / "r") == FILES | {"my_notes.txt": "mine"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".r.x.new-0123abcd", "r"]


def test_the_list_is_the_same_for_the_same_report(tmp_path: Path) -> None:
    put(tmp_path / "a")
    put(tmp_path / "b")
    assert (tmp_path / "a" / MANIFEST).read_bytes() == (tmp_path / "b" / MANIFEST).read_bytes()
    assert set(json.loads((tmp_path / "a" / MANIFEST).read_text())["files"]) == set(FILES)
