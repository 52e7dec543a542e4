"""`abench status` beside a run in a process of its own: who works on what, until all is settled."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from command import Abench, interruptible, running
from small_run import small_plan

from abench.results.store import Store
from abench.storage.folder import FolderBackend

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops processes by POSIX signals")

WHAT = shlex.split(
    "--layers 1 --variants topk --width 64 --k 4 --tokens 122880 --limit 4 --tasks core --set context=32 "
    "--set training.batch_size=512 --set training.buffer_tokens=1024 --set evaluation.tokens=256"
)
PLAN = small_plan(layers=(1,), variants=("topk",), training__tokens=122880)
TRAINING = re.compile(r"training, step \d+ of 240")


@contextmanager
def stopped_in_training(root: Path) -> Iterator["subprocess.Popen[str]"]:
    """A run that has written a checkpoint of its SAE, and is stopped before it is trained."""
    (sae,) = PLAN.saes
    with running("run", *WHAT, "--checkpoint-every", "0", "--results", root) as process:
        store, ends = Store(FolderBackend(root)), time.monotonic() + 120
        while store.checkpoint_step(sae) is None:
            assert process.poll() is None and time.monotonic() < ends, process.communicate()[0]
            time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
        yield process


def test_status_of_a_run_in_training(abench: Abench, tmp_path: Path) -> None:
    with stopped_in_training(tmp_path) as process:
        rows = json.loads(abench("status", *WHAT, "--results", tmp_path, "--json").out)
        assert rows and {row["status"] for row in rows} == {"missing"}
        assert all(TRAINING.match(row["reason"]) for row in rows)
        assert all(f", process {process.pid})" in row["reason"] for row in rows)
        on_a_terminal(tmp_path)
        go_on = threading.Timer(1.5, process.send_signal, [signal.SIGCONT])
        go_on.start()
        watched = abench("status", *WHAT, "--results", tmp_path, "--watch")
        go_on.join()
        assert process.wait(60) == 0
    lines = watched.out.splitlines()
    assert watched.code == 0
    assert lines[0] == f"cells: {len(rows)} missing of {len(rows)}"
    assert lines[1] == "SAEs: 1 missing of 1"
    assert TRAINING.search(lines[2]) and f", process {process.pid}: topk_k4" in lines[2]
    assert f"cells: {len(rows)} done of {len(rows)}" in lines and "SAEs: 1 done of 1" in lines
    # Not all lines: what a process works on may be seen, not seen, and seen again.
    counts = [line for line in lines if line.startswith(("cells:", "SAEs:"))]
    assert len(set(counts)) == len(counts)


def on_a_terminal(root: Path) -> None:
    """The display shows the training and is redrawn; Ctrl-C ends it without a message."""
    import pty

    ours, theirs = pty.openpty()
    with ExitStack() as stack:
        stack.callback(os.close, ours)
        command = [sys.executable, "-P", "-m", "abench", "status", *WHAT, "--results", str(root), "--watch"]
        wide = {**os.environ, "COLUMNS": "200"}
        with subprocess.Popen(
            command, stdout=theirs, stderr=theirs, env=wide, preexec_fn=interruptible
        ) as it:
            stack.callback(it.kill)
            os.close(theirs)
            shown = b""
            while shown.count(b"training, step") < 2:
                shown += os.read(ours, 65536)
            it.send_signal(signal.SIGINT)
            # What nobody reads fills the terminal, and its writer waits.
            with suppress(OSError):  # the end of a terminal that nobody holds any more
                while chunk := os.read(ours, 65536):
                    shown += chunk
            assert it.wait(30) == 4
        assert b"interrupted" not in shown


def test_a_settled_run_ends_the_watch_at_once(abench: Abench, tmp_path: Path) -> None:
    assert abench("run", *WHAT, "--tokens", "2048", "--results", tmp_path).code == 0
    result = abench("status", *WHAT, "--tokens", "2048", "--results", tmp_path, "--watch")
    assert result.code == 0 and result.out.count("\n") == 2
    assert abench("status", "--watch", "--json").code == 2
