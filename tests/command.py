"""Running the command line in tests: in this process where that is enough, in its own where it is not."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SMALL = (
    "--width",
    "200",
    "--tokens",
    "40960",
    "--set",
    "training.batch_size=512",
    "--set",
    "training.buffer_tokens=4096",
    "--set",
    "training.calibration_tokens=2048",
    "--set",
    "evaluation.tokens=2560",
    "--set",
    "context=64",
)
"""Options that make a run on the bundled model take seconds."""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Abench:
    """Calls `abench`'s entry point in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *args: str | Path) -> Result:
        from abench.cli import main

        self._monkeypatch.setattr(sys, "argv", ["abench", *map(str, args)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = self._capsys.readouterr()
        return Result(int(exit_.value.code or 0), captured.out, captured.err)


def start(*args: str | Path) -> "subprocess.Popen[str]":
    """`abench` in a process of its own."""
    command = [sys.executable, "-P", "-m", "abench", *map(str, args)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=interruptible if os.name == "posix" else None,
    )


def interruptible() -> None:
    """Let Ctrl-C end a process that is about to start; the background jobs of a shell ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running(*args: str | Path) -> "Iterator[subprocess.Popen[str]]":
    """`abench` in a process of its own, which is ended, and its output closed, however the block ends."""
    with start(*args) as process:
        try:
            yield process
        finally:
            process.kill()
