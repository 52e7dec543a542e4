"""What the disk refuses is one sentence; nothing half-written stays, and the same command resumes."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import SMALL, Abench, start
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import zeros

from abench.storage.faults import StorageError, writing

RUN = ("run", "--variants", "topk", "--k", "4", *SMALL, "--tokens", "8192")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("finished") / "results"
    process = start(*RUN, "--results", results)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return results


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system of its own at `folder`; the test is skipped where none can be mounted."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def assert_nothing_half_written(results: Path) -> None:
    assert not [path for path in results.rglob(".*") if not path.name.endswith(".lock")]
    assert not list((results / "leases").glob("*"))


def assert_one_sentence(err: str, place: Path) -> None:
    lines = [line for line in err.splitlines() if "abench: " in line]
    assert len(lines) == 1 and "Traceback" not in err, err
    assert str(place) in lines[0]
    assert "run the same command again" in lines[0]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Refuse files larger than `size` bytes: less than a full disk refuses, but it can be had everywhere."""
    resource = pytest.importorskip("resource", reason="sizes of files cannot be limited here")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("size", "stage"), [(60_000, "training"), (1_000, "scoring"), (10, "lease")])
def test_a_file_that_cannot_be_written_ends_the_run_with_a_sentence(
    abench: Abench, finished: Path, tmp_path: Path, size: int, stage: str
) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished, results)
    shutil.rmtree(results / "cells")
    if stage == "training":
        shutil.rmtree(results / "saes")
    with files_of_at_most(size):
        done = abench(*RUN, "--checkpoint-every", "0", "--results", results)
    assert done.code == 2, done.err
    assert_one_sentence(done.err, results)
    assert_nothing_half_written(results)
    assert not list(results.glob("cells/*/*/*/*")), "the failure of the disk is no result of the cell"
    assert bool(list(results.glob("saes/*/*/*"))) == (stage != "training")


ON_A_FULL_DISK = """
import errno, os, runpy, sys
really, left = os.fsync, int(sys.argv.pop(1))
def refuse(file):
    global left
    left -= 1
    if left < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    really(file)
os.fsync = refuse
runpy.run_module("abench", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("writes", [0, 6], ids=["first", "later"])
def test_a_disk_that_is_full_on_one_node_stops_that_node_alone(
    finished: Path, tmp_path: Path, writes: int
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    shutil.copy(finished / "abench.json", results)
    words = [*RUN, "--checkpoint-every", "0", "--results", str(results)]
    full = subprocess.Popen(
        [sys.executable, "-P", "-c", ON_A_FULL_DISK, str(writes), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    other = start(*words)
    output, _ = other.communicate()
    refused, _ = full.communicate()
    assert other.returncode == 0, output
    assert full.returncode in (0, 2), refused
    if full.returncode:  # else the other one had done everything before its disk was full
        assert_one_sentence(refused, results)
    assert_nothing_half_written(results)
    report = "reports/default/data.csv"
    assert (results / report).read_bytes() == (finished / report).read_bytes()


FULL = {
    "creation": ((), 0),
    "training": ((), 400_000),
    "scoring": (("abench.json", "saes"), 0),
    "report": (("abench.json", "saes", "cells"), 20_000),
}
"""What a folder holds already, and how many bytes more it takes."""


def test_a_full_disk_ends_the_run_with_a_sentence_at_every_stage(
    abench: Abench, finished: Path, tmp_path: Path
) -> None:
    results = tmp_path / "small"
    with mounted(results, "-t", "tmpfs", "-o", "size=20m", "none"):
        for stage, (present, free) in FULL.items():
            remove(results / "ballast")
            for name in present:
                copy = shutil.copy if (finished / name).is_file() else shutil.copytree
                copy(finished / name, results / name)
            fill(results, free)
            done = abench(*RUN, "--results", results, "--checkpoint-every", "0")
            assert done.code == 2, stage
            assert_one_sentence(done.err, results)
            assert_nothing_half_written(results)
            assert ("nmse" in done.out.lower()) == (stage == "report")
            if stage != "report":
                for name in ("abench.json", "saes", "cells"):
                    remove(results / name)
        remove(results / "ballast")
        assert abench(*RUN, "--results", results).code == 0
        report = "reports/default/data.csv"
        assert (results / report).read_bytes() == (finished / report).read_bytes()


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fill(folder: Path, free: int) -> None:
    """Leave `free` bytes of the file system under a folder."""
    ballast = folder / "ballast"
    ballast.write_bytes(b"")
    ballast.write_bytes(bytes(shutil.disk_usage(folder).free - free))


@pytest.mark.parametrize("command", ["run", "report"])
def test_a_finished_folder_that_is_read_only_is_shown(
    abench: Abench, finished: Path, command: str, tmp_path: Path
) -> None:
    place = tmp_path / "read-only"
    usual = abench(command, *RUN[1:], "--results", finished)
    with mounted(place, "--bind", str(finished)):
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        shown = abench(command, *RUN[1:], "--results", place)
        other = abench("run", *RUN[1:], "--seeds", "7", "--results", place)
    assert shown.code == usual.code == 0
    assert table_of(shown.out) == table_of(usual.out)
    assert "the report was not written: " in shown.err and "Read-only file system" in shown.err
    assert other.code == 2
    assert "is not writable, and results are missing from it" in other.err


def table_of(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.strip() and "computed" not in line][:4]


def test_a_report_that_cannot_be_written_is_printed_all_the_same(
    abench: Abench, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = abench("report", *RUN[1:], "--results", finished)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(finished / "reports" / "x"))

    monkeypatch.setattr("abench.runs.report_of_plan.write_prepared", refuse)
    full = abench("report", *RUN[1:], "--results", finished)
    assert full.code == 2
    assert table_of(full.out) == table_of(usual.out)
    assert_one_sentence(full.err, finished / "reports" / "x")


def raises(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "message", "read_only"),
    [
        (
            raises(OSError(errno.ESTALE, "Stale file handle", "a")),
            "a cannot be written (Stale file handle)",
            False,
        ),
        (raises(OSError(errno.EIO, "I/O error")), "here cannot be written (I/O error)", False),
        (raises(OSError(errno.EROFS, "Read-only", "a", None, "b")), "b cannot be written (Read-only)", True),
        (lambda: save_file({"x": zeros(1)}, "/no/such/folder/x"), "here cannot be written (", False),
    ],
)
def test_the_sentence_names_the_place_and_the_cause(
    act: Callable[[], None], message: str, read_only: bool
) -> None:
    with pytest.raises(StorageError) as raised, writing(Path("here")):
        act()
    assert str(raised.value).startswith(message)
    assert raised.value.read_only == read_only


def test_an_error_that_is_not_the_disk_s_stays_what_it_is() -> None:
    with pytest.raises(SafetensorError), writing(Path("here")):
        raise SafetensorError("Error while deserializing header: HeaderTooLarge")
