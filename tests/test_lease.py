"""Leases: one holder at a time, whatever the order of steps, the clock, the file system and the damage."""

import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from abench.storage.claims import LeaseLost
from abench.storage.lease import FileLease, Leases
from abench.storage.processes import ProcessId

DAYS = 2 * 24 * 3600.0
NAME = "a"
ELSEWHERE = {"host": "elsewhere", "pid": 1, "started": "1", "token": "t"}


def leases_of(folder: Path) -> Leases:
    return Leases(folder / "leases", folder / "lock")


def lease_file(folder: Path) -> Path:
    return folder / "leases" / f"{NAME}.json"


def plant(folder: Path, content: object, *, age: float = 0.0) -> Path:
    """A lease file of somebody else, `age` seconds old."""
    path = lease_file(folder)
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    os.utime(path, (time.time() - age,) * 2)
    return path


def is_free(folder: Path, leases: Leases | None = None) -> bool:
    with (leases or leases_of(folder)).claim(NAME) as lease:
        return lease is not None


def test_a_lease_is_held_by_one(tmp_path: Path) -> None:
    leases = leases_of(tmp_path)
    with leases.claim(NAME) as first, leases.claim(NAME) as second, leases.claim("b") as other:
        assert first is not None and second is None and other is not None
        me = f"{socket.gethostname()}, process {os.getpid()}"
        assert leases.holder(NAME) == me and leases.holders() == {NAME: me, "b": me}
    assert is_free(tmp_path) and leases.holders() == {}
    assert leases.holder(NAME) is None
    assert list((tmp_path / "leases").iterdir()) == []
    assert leases.notices == []


HOLD = """
import sys, time, pathlib
from abench.storage.lease import Leases
folder = pathlib.Path(sys.argv[1])
with Leases(folder / "leases", folder / "lock").claim("a") as lease:
    print(lease is not None, flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    return process


def test_a_killed_process_loses_its_lease_at_once_and_without_a_word(tmp_path: Path) -> None:
    with hold(tmp_path) as process:
        assert not is_free(tmp_path)
        process.send_signal(signal.SIGKILL)
        leases = leases_of(tmp_path)
        # Its parent has not asked for its exit status yet: it is gone all the same.
        for _ in range(100):
            if is_free(tmp_path, leases):
                break
            time.sleep(0.05)
        else:
            pytest.fail("the lease of a killed process is held")
        assert leases.notices == []


def test_a_silent_host_loses_its_lease_and_it_is_said(tmp_path: Path) -> None:
    leases = leases_of(tmp_path)
    plant(tmp_path, ELSEWHERE)
    assert not is_free(tmp_path, leases)
    plant(tmp_path, ELSEWHERE, age=DAYS)
    assert is_free(tmp_path, leases)
    (notice,) = leases.notices
    assert "of elsewhere, process 1: no sign of life for 172,8" in notice


@pytest.mark.parametrize("age", [-DAYS, -300.0, 0.0, 300.0, 3600.0])
def test_a_lease_of_any_date_is_taken_over_once_it_has_not_changed_for_as_long(
    tmp_path: Path, age: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abench.storage.lease.STALE_SECONDS", 0.5)
    leases = leases_of(tmp_path)
    path = plant(tmp_path, ELSEWHERE, age=age)
    assert not is_free(tmp_path, leases)
    time.sleep(0.3)
    os.utime(path, (time.time() - age + 1,) * 2)  # it lives, and its clock is wrong
    assert not is_free(tmp_path, leases)
    time.sleep(0.3)
    assert not is_free(tmp_path, leases)
    time.sleep(0.6)
    assert is_free(tmp_path, leases)
    (notice,) = leases.notices
    assert notice.endswith("no sign of life for 1 seconds")


def test_a_process_number_used_again_is_another_process(tmp_path: Path) -> None:
    me = vars(ProcessId.current())
    plant(tmp_path, me | {"token": "t"})
    assert not is_free(tmp_path)
    plant(tmp_path, me | {"token": "t", "started": "0"})
    assert is_free(tmp_path)


def test_a_container_of_the_same_host_name_is_judged_by_its_heart_alone(tmp_path: Path) -> None:
    nobody = vars(ProcessId.current()) | {"pid": 2**30, "token": "t"}
    plant(tmp_path, nobody)
    assert is_free(tmp_path)
    plant(tmp_path, nobody | {"machine": "another"})
    assert not is_free(tmp_path)


def folder_with_a_file(path: Path) -> None:
    path.mkdir()
    (path / "x").write_text("x")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "null": lambda path: path.write_text("null"),
    "a list": lambda path: path.write_text("[1]"),
    "nothing in it": lambda path: path.write_text("{}"),
    "other types": lambda path: path.write_text(json.dumps(ELSEWHERE | {"pid": [1]})),
    "no text": lambda path: path.write_bytes(b"\xff\x00" * 9),
    "huge": lambda path: path.write_bytes(b"[" * 10**7),
    "a folder": folder_with_a_file,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to a lease": lambda path: path.symlink_to(path.with_name("b.json")),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_lease_is_taken_over(tmp_path: Path, damage: str) -> None:
    leases = leases_of(tmp_path)
    plant(tmp_path, ELSEWHERE).rename(tmp_path / "leases" / "b.json")
    DAMAGE[damage](lease_file(tmp_path))
    assert leases.holder(NAME) is None
    with leases.claim(NAME) as lease:
        assert lease is not None
        with lease.commit():
            pass
    assert [path.name for path in (tmp_path / "leases").iterdir()] == ["b.json"]
    assert len(leases.notices) == 1


def test_a_lease_that_cannot_be_read_may_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plant(tmp_path, ELSEWHERE)
    really_open = Path.open

    def opened(self: Path, *args: str, **more: str) -> object:
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return really_open(self, *args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", opened)
    assert not is_free(tmp_path)
    os.utime(path, (0, 0))
    with leases_of(tmp_path).claim(NAME) as lease:
        assert lease is not None


@pytest.mark.parametrize("code", ["EPERM", "EOPNOTSUPP", "EMLINK"])
def test_no_hard_links_are_needed(tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, code), "no links here")

    monkeypatch.setattr(os, "link", refuse)
    test_a_lease_is_held_by_one(tmp_path)


@pytest.mark.parametrize("code", ["ENOSYS", "EOPNOTSUPP", "ENOLCK", "EINVAL"])
def test_no_flock_is_needed(tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl", reason="there is no flock to be refused")

    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, code), "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    test_a_lease_is_held_by_one(tmp_path)
    test_a_silent_host_loses_its_lease_and_it_is_said(tmp_path)
    assert not (tmp_path / "lock.soft").exists()


def test_no_fcntl_is_needed(tmp_path: Path) -> None:
    code = "import sys; sys.modules['fcntl'] = None; import abench, abench.cli, abench.results.store\n" + HOLD
    code = code.replace("time.sleep(60)", "")
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr


# Holders that were stopped


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[FileLease]:
    """A lease whose holder has not shown a sign of life for two days and does not know."""
    with leases_of(tmp_path).claim(NAME) as lease:
        assert lease is not None
        os.utime(lease_file(tmp_path), (time.time() - DAYS,) * 2)
        yield lease


def test_who_was_silent_and_was_not_missed_goes_on(tmp_path: Path, stopped: FileLease) -> None:
    stopped.beat()
    assert not is_free(tmp_path)
    with stopped.commit():
        assert not stopped.lost


@pytest.mark.parametrize("given_back", [False, True])
def test_who_lost_its_lease_commits_nothing(tmp_path: Path, stopped: FileLease, given_back: bool) -> None:
    with ExitStack() as stack:
        taker = stack.enter_context(leases_of(tmp_path).claim(NAME))
        assert taker is not None
        if given_back:
            stack.close()
        assert not stopped.lost
        with pytest.raises(LeaseLost, match="has taken over"), stopped.commit():
            pytest.fail("committed")
        assert stopped.lost
        if not given_back:
            stopped.release()
            before = lease_file(tmp_path).stat().st_mtime_ns
            stopped.beat()
            assert lease_file(tmp_path).stat().st_mtime_ns == before
            with taker.commit():
                pass


def test_the_heart_notices_that_the_lease_is_lost(tmp_path: Path, stopped: FileLease) -> None:
    with leases_of(tmp_path).claim(NAME):
        stopped.beat()
        assert stopped.lost


def test_a_beating_heart_keeps_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abench.storage.lease.HEARTBEAT_SECONDS", 0.01)
    with leases_of(tmp_path).claim(NAME) as lease:
        path = lease_file(tmp_path)
        os.utime(path, (0, 0))
        for _ in range(500):
            if path.stat().st_mtime > 0:
                break
            time.sleep(0.01)
        assert path.stat().st_mtime > time.time() - 60
        assert lease is not None and not lease.lost


# Orders of steps


def test_a_release_between_the_look_and_the_takeover_makes_no_second_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holds, B looks and finds it stale, A releases, C takes; B must not remove what C took."""
    from abench.storage.lease_file import LeaseFile, Seen

    holds: dict[str, FileLease | None] = {}
    stack = ExitStack()
    first = stack.enter_context(leases_of(tmp_path).claim(NAME))
    assert first is not None
    os.utime(lease_file(tmp_path), (0, 0))
    really_look = LeaseFile.look

    def release_and_take() -> None:
        first.release()
        holds["C"] = stack.enter_context(leases_of(tmp_path).claim(NAME))

    others = threading.Thread(target=release_and_take)

    def look(self: LeaseFile) -> Seen | None:
        seen = really_look(self)
        if threading.current_thread() is threading.main_thread() and not others.ident:
            others.start()
            others.join(0.3)  # they get as far as they can
        return seen

    monkeypatch.setattr(LeaseFile, "look", look)
    holds["B"] = stack.enter_context(leases_of(tmp_path).claim(NAME))
    others.join()
    with stack:
        assert [name for name, lease in holds.items() if lease is not None] == ["B"]


class Contenders:
    """Threads that claim one lease over and over, with pauses at every file operation.

    Some of them do as if they were stopped while they hold it: from then on another may take it over.
    """

    def __init__(self, folder: Path, tries: int) -> None:
        self.folder, self.tries = folder, tries
        self.holders: set[str] = set()
        self.overlaps: list[set[str]] = []
        self.taken, self.lost = 0, 0
        self.lock = threading.Lock()

    def contend(self, seed: int) -> None:
        choice, leases = random.Random(seed), leases_of(self.folder)
        for _ in range(self.tries):
            with leases.claim(NAME) as lease:
                if lease is not None:
                    self.work(lease, choice)

    def work(self, lease: FileLease, choice: random.Random) -> None:
        self.enter(lease)
        time.sleep(choice.choice((0.0, 0.0, 1e-4)))
        with lease.commit():
            pass
        self.leave(lease)
        if choice.random() < 0.5:
            os.utime(lease_file(self.folder), (0, 0))
            time.sleep(choice.choice((0.0, 1e-3)))
            try:
                with lease.commit():
                    self.enter(lease)
                    self.leave(lease)
            except LeaseLost:
                self.lost += 1

    def enter(self, lease: FileLease) -> None:
        with self.lock:
            self.taken += 1
            self.holders.add(lease.token)
            if len(self.holders) > 1:
                self.overlaps.append(set(self.holders))

    def leave(self, lease: FileLease) -> None:
        with self.lock:
            self.holders.remove(lease.token)


@pytest.mark.slow
def test_two_never_hold_one_lease_in_ten_thousand_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays = random.Random(0)
    for name in ("open", "lstat", "replace", "unlink"):
        operation = getattr(Path, name)

        def delayed(self: Path, *args: object, operation: object = operation, **more: object) -> object:
            if delays.random() < 0.05:
                time.sleep(delays.random() * 2e-4)
            return operation(self, *args, **more)  # type: ignore[operator]

        monkeypatch.setattr(Path, name, delayed)
    contenders = Contenders(tmp_path, 2500)
    threads = [threading.Thread(target=contenders.contend, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contenders.overlaps == []
    assert contenders.taken > 50 and contenders.lost > 2, "too little happened to mean anything"


DELAYED = """
import os, pathlib, random, sys, time
from abench.storage.lease import Leases
folder, delays, taken = pathlib.Path(sys.argv[1]), random.Random(int(sys.argv[2])), 0
for name in ("open", "lstat", "replace", "unlink"):
    def delayed(self, *args, operation=getattr(pathlib.Path, name), **more):
        if delays.random() < 0.05:
            time.sleep(delays.random() * 2e-4)
        return operation(self, *args, **more)
    setattr(pathlib.Path, name, delayed)
leases = Leases(folder / "leases", folder / "lock")
time.sleep(max(0.0, float(sys.argv[3]) - time.time()))
for _ in range(5000):
    with leases.claim("a") as lease:
        if lease is not None:
            # Fails if the other process is between these lines, too.
            os.close(os.open(folder / "held", os.O_CREAT | os.O_EXCL))
            with lease.commit():
                taken += 1
            os.unlink(folder / "held")
print(taken)
"""


@pytest.mark.slow
def test_two_processes_never_hold_one_lease_in_ten_thousand_tries(tmp_path: Path) -> None:
    start = str(time.time() + 2.0)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", DELAYED, tmp_path, str(seed), start],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(2)
    ]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    taken = [int(out) for out, _ in said]
    assert min(taken) > 0 and sum(taken) > 200, "too little happened to mean anything"


RACE = """
import sys, time, pathlib
from abench.storage.lease import Leases
folder = pathlib.Path(sys.argv[1])
leases = Leases(folder / "leases", folder / "lock")
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
with leases.claim("a") as lease:
    print(lease is not None, flush=True)
    time.sleep(1.0)
"""


def test_many_processes_at_once_have_one_winner_even_over_a_stale_lease(tmp_path: Path) -> None:
    plant(tmp_path, ELSEWHERE, age=DAYS)
    start = str(time.time() + 2.0)
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, tmp_path, start], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert sorted(racer.communicate()[0].strip() for racer in racers) == ["False", "False", "False", "True"]
