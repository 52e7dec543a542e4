"""A process that was stopped in training goes on later: it must not touch what others made meanwhile."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import SMALL
from filelock import FileLock, Timeout

IMPATIENT = """
from abench.storage import lease
lease.HEARTBEAT_SECONDS, lease.STALE_SECONDS = 0.2, 2.0
from abench.cli import main
main()
"""
RUN = ("run", "--variants", "abstopk", "--k", "4", *SMALL, "--tokens", "81920", "--checkpoint-every", "0")
DEADLINE_SECONDS = 300.0


def start(results: Path, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-c", IMPATIENT, *RUN, "--results", results]
    with log.open("wb") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)


def stop_in_training(process: "subprocess.Popen[bytes]", results: Path) -> None:
    """Stop a process after its first checkpoint, outside the section that all processes wait for."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while not list(results.glob("checkpoints/[!.]*/state.json")):
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.01)
    while True:
        process.send_signal(signal.SIGSTOP)
        try:
            with FileLock(results / "lock").acquire(timeout=0.1):
                return
        except Timeout:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_who_was_stopped_in_training_uses_what_another_made(tmp_path: Path) -> None:
    results = tmp_path / "results"
    first = start(results, tmp_path / "first.log")
    try:
        stop_in_training(first, results)
        second = start(results, tmp_path / "second.log")
        assert second.wait(DEADLINE_SECONDS) == 0, (tmp_path / "second.log").read_text()
        made = {path: path.stat().st_ino for part in ("saes", "cells") for path in files(results / part)}
        assert made
        first.send_signal(signal.SIGCONT)
        assert first.wait(DEADLINE_SECONDS) == 0, (tmp_path / "first.log").read_text()
    finally:
        first.kill()
    assert "another process has taken over" in (tmp_path / "first.log").read_text()
    assert "no sign of life for" in (tmp_path / "second.log").read_text()
    assert {path: path.stat().st_ino for path in made} == made
    assert not list(results.rglob(".*"))
    assert not [path for part in ("leases", "checkpoints") for path in (results / part).iterdir()]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
