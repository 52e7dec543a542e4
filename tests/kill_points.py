"""Kills a small run at each of its write operations, resumes it, and compares what comes of it.

    python tests/kill_points.py training|report FOLDER

One warm process forks a child for each operation. The child dies by SIGKILL at its i-th operation: before it,
or half-way through a file's content. Another child resumes. Operations are found by an audit hook and by
wrappers around what audit hooks do not see, so none has to be listed here. The last line printed is JSON.
"""

import builtins
import io
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
from small_run import data_of, small_plan, weights_of

from abench.data import token_rows
from abench.report import tidy
from abench.results.store import Store
from abench.runs import group_training, model_opening
from abench.runs.plan import Plan
from abench.runs.runner import run_plan

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
FINISHED = 7
"""Exit status of a child that came to its end before its i-th operation."""


class Killer:
    """Counts the write operations of this process below a folder and dies at one of them."""

    def __init__(self, root: Path, at: int) -> None:
        self._root, self._at, self._seen, self._busy = str(root), at, 0, False

    def install(self) -> None:
        """From now on; there is no way back in this process."""
        sys.addaudithook(self._audit)
        os.fsync = self._before(os.fsync)
        writer = safetensors.torch.serialize_file
        safetensors.torch.serialize_file = self._half_written(writer)
        opener = builtins.open
        builtins.open = io.open = self._opened(opener)  # type: ignore[assignment]

    def operation(self, half: Callable[[], object] | None = None) -> None:
        """Count an operation; if it is the one to die at, do half of it and die."""
        if self._seen == self._at:
            if half is not None:
                self._busy = True
                half()
            os.kill(os.getpid(), signal.SIGKILL)
        self._seen += 1

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self._busy:
            return
        if event in _EVENTS or (event == "open" and isinstance(args[2], int) and args[2] & _WRITING):
            # Removing a tree names its files relative to a folder that it has open.
            place = str(args[0])
            if place.startswith(self._root) or not place.startswith("/"):
                self.operation()

    def _before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self.operation()
            return function(*args)

        return counted

    def _half_written(self, writer: Callable[..., Any]) -> Callable[..., Any]:
        def counted(tensors: Any, name: Any, *args: Any, **options: Any) -> None:
            def half() -> None:
                writer(tensors, name, *args, **options)
                os.truncate(name, Path(name).stat().st_size // 2)

            self.operation()
            self.operation(half)
            writer(tensors, name, *args, **options)

        return counted

    def _opened(self, opener: Callable[..., Any]) -> Callable[..., Any]:
        def counted(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            stream = opener(file, mode, *args, **options)
            below = not isinstance(file, int) and str(file).startswith(self._root)
            return _Stream(stream, self) if below and set(mode) & set("wax+") else stream

        return counted


class _Stream:
    """A file open for writing, whose first write is an operation."""

    def __init__(self, stream: Any, killer: Killer) -> None:
        self._stream, self._killer, self._fresh = stream, killer, True

    def write(self, content: Any) -> int:
        if self._fresh:
            self._fresh = False

            def half() -> None:
                self._stream.write(content[: len(content) // 2])
                self._stream.flush()

            self._killer.operation(half)
        return int(self._stream.write(content))

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def in_child(work: Callable[[], int]) -> int:
    """What `os.waitpid` says of a forked child that does some work: minus the signal, or its exit status."""
    child = os.fork()
    if child == 0:
        _work_and_leave(work)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _work_and_leave(work: Callable[[], int]) -> NoReturn:
    status = 1
    try:
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def train(plan: Plan, root: Path) -> None:
    run_plan(plan, Store.open(root, create=True), checkpoint_seconds=0.0)


def report(plan: Plan, root: Path) -> None:
    data_of(plan, Store.open(root, create=False))


def numbers(plan: Plan, root: Path) -> tuple[dict[str, bytes], str]:
    """The weights, and what a report has in its data.csv."""
    store = Store.open(root, create=False)
    records = [vars(record) for cell in plan.cells if (record := store.get(cell)) is not None]
    return weights_of(plan, store), tidy(records).to_csv(index=False, lineterminator="\n")


def kill_everywhere(
    work: Callable[[], None], same: Callable[[], bool], reset: Callable[[], None], root: Path
) -> dict[str, Any]:
    """Die at operation 0, 1, ... of `work` after `reset`, do it again, and note where `same` is not true."""
    wrong: list[int] = []
    number = 0
    while True:
        reset()

        def die(at: int = number) -> int:
            Killer(root, at).install()
            work()
            return FINISHED

        def resume() -> int:
            work()
            return 0 if same() else 1

        ended = in_child(die)
        if ended == FINISHED:
            return {"operations": number, "wrong": wrong}
        if ended != -signal.SIGKILL or in_child(resume) != 0:
            wrong.append(number)
            print(f"operation {number}: the child ended with {ended}", file=sys.stderr)
        number += 1


def main(part: str, folder: Path) -> None:
    torch.set_num_threads(1)
    sizes = {"training__tokens": 768, "training__batch_size": 256, "training__buffer_tokens": 512}
    plan = small_plan(variants=("abstopk",), seeds=(0, 1), **sizes)
    opened = model_opening.open_planned(plan.model, "cpu")
    model_opening.open_planned = lambda *_: opened  # opened once, not once for each operation
    undisturbed, root = folder / "undisturbed", folder / "results"
    make_it_quick()
    train(plan, undisturbed)
    expected = numbers(plan, undisturbed)
    data = data_of(plan, Store.open(undisturbed, create=False))

    def start_anew() -> None:
        shutil.rmtree(root, ignore_errors=True)

    def start_finished() -> None:
        # With a report, which the next one replaces.
        start_anew()
        shutil.copytree(undisturbed, root)

    def same_report() -> bool:
        return (root / "reports" / plan.config.name / "data.csv").read_text(encoding="utf-8") == data

    if part == "training":
        result = kill_everywhere(
            lambda: train(plan, root), lambda: numbers(plan, root) == expected, start_anew, root
        )
    else:
        result = kill_everywhere(lambda: report(plan, root), same_report, start_finished, root)
    print(json.dumps(result))


def make_it_quick() -> None:
    """A checkpoint after every step, however long it takes, and no more texts drawn than are needed."""
    group_training.CHECKPOINT_SHARE = float("inf")
    token_rows._TEXTS_AT_ONCE = 16


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
