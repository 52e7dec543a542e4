"""Kept values: found by their whole spec, whole or missing, never changed from outside."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from abench.errors import UserError
from abench.kept import FolderKept, Kept, MemoryKept

SPEC = {"model": "m", "messages": [{"role": "user", "content": "ä?"}], "parameters": {"temperature": 0}}
VALUE = {"text": "yes", "tokens": 6}


@pytest.fixture(params=["memory", "folder"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    return MemoryKept() if request.param == "memory" else FolderKept(tmp_path / "kept")


def test_a_value_is_found_by_its_spec_and_by_no_other(kept: Kept) -> None:
    assert kept.get(SPEC) is None
    kept.put(SPEC, VALUE)
    assert kept.get(dict(reversed(SPEC.items()))) == VALUE
    assert kept.get(SPEC | {"model": "n"}) is None
    kept.put(SPEC, [1])
    assert kept.get(SPEC) == [1]


def test_changing_a_value_changes_nothing_that_is_kept(kept: Kept) -> None:
    value: dict[str, Any] = {"list": [1]}
    kept.put(SPEC, value)
    value["list"].append(2)
    got = kept.get(SPEC)
    assert got == {"list": [1]}
    got["list"].append(3)
    assert kept.get(SPEC) == {"list": [1]}


@pytest.mark.parametrize("value", [None, float("nan"), object(), {"a": {1, 2}}])
def test_what_is_not_plain_json_is_not_kept(kept: Kept, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        kept.put(SPEC, value)
    assert kept.get(SPEC) is None


def test_a_folder_outlives_the_object_and_leaves_no_other_files(tmp_path: Path) -> None:
    FolderKept(tmp_path).put(SPEC, VALUE)
    again = FolderKept(tmp_path)
    assert again.get(SPEC) == VALUE
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == [again.file_of(SPEC)]


def _truncate(text: str) -> str:
    return text[: len(text) // 2]


def _other_spec(text: str) -> str:
    return json.dumps(json.loads(text) | {"spec": {"model": "other"}})


@pytest.mark.parametrize(
    "damage", [_truncate, _other_spec, lambda _: "", lambda _: "[]", lambda _: "{}", lambda _: "\0\0"]
)
def test_a_damaged_file_counts_as_missing_and_is_written_anew(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    kept = FolderKept(tmp_path)
    kept.put(SPEC, VALUE)
    file = kept.file_of(SPEC)
    file.write_text(damage(file.read_text(encoding="utf-8")), encoding="utf-8")
    assert kept.get(SPEC) is None
    kept.put(SPEC, VALUE)
    assert kept.get(SPEC) == VALUE


def test_bytes_that_are_no_text_count_as_missing(tmp_path: Path) -> None:
    kept = FolderKept(tmp_path)
    kept.put(SPEC, VALUE)
    kept.file_of(SPEC).write_bytes(b"\xff\xfe\x00")
    assert kept.get(SPEC) is None


def test_a_process_killed_while_writing_leaves_whole_files_only(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from abench.kept import FolderKept\n"
        "kept = FolderKept(Path(sys.argv[1]))\n"
        "for i in range(10**6):\n"
        "    kept.put({'i': i}, 'x' * 200_000)\n"
        "    print(i, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.kill()
    kept = FolderKept(tmp_path)
    assert all(kept.get({"i": i}) == "x" * 200_000 for i in range(20))
    for file in tmp_path.glob("??/[!.]*"):
        assert json.loads(file.read_text(encoding="utf-8"))["value"] == "x" * 200_000


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = FolderKept(tmp_path / "file")
    assert kept.get(SPEC) is None
    with pytest.raises(UserError, match=r"cannot be written \(.+\): fix this") as raised:
        kept.put(SPEC, VALUE)
    assert os.linesep not in str(raised.value)
