"""Leases where file systems refuse calls, clocks differ, containers share a name, and holders are stopped."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from abench.storage import processes
from abench.storage.files import write_whole
from abench.storage.lease import Leases
from abench.storage.lease_file import LeaseFile
from abench.storage.locks import Held, guarded
from abench.storage.processes import ProcessId

NAME = "a"

HOLDER = """
import errno, os, pathlib, sys, time
from abench.storage import lease as leases_module
from abench.storage.files import write_whole
from abench.storage.claims import LeaseLost
from abench.storage.lease import Leases
leases_module.HEARTBEAT_SECONDS = 0.05
folder = pathlib.Path(sys.argv[1])
{before}
with Leases(folder / "leases", folder / "lock").claim("a") as lease:
    print(lease is not None, flush=True)
    {work}
"""
WRITE_WHEN_TOLD = """
    sys.stdin.readline()
    try:
        write_whole(folder / "result", "late", lease=lease)
        print("written", lease.lost, flush=True)
    except LeaseLost:
        print("lost", lease.lost, flush=True)
"""


def leases_of(folder: Path) -> Leases:
    return Leases(folder / "leases", folder / "lock")


def is_free(leases: Leases) -> bool:
    with leases.claim(NAME) as lease:
        return lease is not None


def is_free_within(leases: Leases, seconds: float) -> bool:
    """Whether the lease can be taken while it is tried all the time."""
    end = time.monotonic() + seconds
    while not (free := is_free(leases)) and time.monotonic() < end:
        time.sleep(0.05)
    return free


@contextmanager
def holder(
    folder: Path, *, before: str = "", work: str = "time.sleep(60)", within: tuple[str, ...] = ()
) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lease; it is killed at the end of the block."""
    code = HOLDER.format(before=before, work=work)
    command = [*within, sys.executable, "-c", code, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert said_by(process) == "True"
            yield process
        finally:
            process.kill()


def said_by(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abench.storage.lease.STALE_SECONDS", 1.0)


# Clocks


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("minutes", [-5, 5])
def test_a_holder_whose_clock_is_wrong_by_minutes_keeps_its_lease(tmp_path: Path, minutes: int) -> None:
    wrong = f"""
really = os.utime
def by_the_wrong_clock(file, *_):
    really(file, (time.time() + {minutes * 60},) * 2)
os.utime = by_the_wrong_clock
"""
    with holder(tmp_path, before=wrong) as process:
        wait_for_date(tmp_path, minutes)
        leases = leases_of(tmp_path)
        assert not is_free_within(leases, 2.5)
        process.send_signal(signal.SIGSTOP)
        assert is_free_within(leases, 20.0)


def wait_for_date(folder: Path, minutes: int) -> None:
    file, end = folder / "leases" / f"{NAME}.json", time.monotonic() + 30.0
    while time.monotonic() < end and abs(file.stat().st_mtime - time.time()) < abs(minutes) * 30:
        time.sleep(0.05)


# File systems that refuse calls


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("code", ["EPERM", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_that_sets_no_dates_keeps_leases_alive(tmp_path: Path, code: str) -> None:
    refused = f"""
def refuse(*_, **__):
    raise OSError(errno.{code}, "no dates here")
os.utime = refuse
"""
    with holder(tmp_path, before=refused, work=WRITE_WHEN_TOLD) as process:
        leases = leases_of(tmp_path)
        assert not is_free_within(leases, 2.5)
        assert [file.name for file in (tmp_path / "leases").glob("[!.]*")] == [f"{NAME}.json"]
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert said_by(process) == "written False"
    assert is_free(leases)


NO_FLOCK = """
import fcntl
def refuse(*_):
    raise OSError(errno.ENOLCK, "no locks here")
fcntl.flock = refuse
"""
DIE_IN_THE_SECTION = """
    with lease.commit():
        os.kill(os.getpid(), 9)
"""


def test_without_flock_a_process_that_dies_in_the_critical_section_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="there is no flock to be refused")
    with holder(tmp_path, before=NO_FLOCK, work=DIE_IN_THE_SECTION) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert (tmp_path / "lock.soft").exists(), "it did not die in the section"

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert is_free_within(leases_of(tmp_path), 10.0)
    assert not (tmp_path / "lock.soft").exists()


TURNS = """
    pass
leases = Leases(folder / "leases", folder / "lock")
for _ in range(60):
    with leases.claim("b") as lease:
        if lease is not None:
            os.close(os.open(folder / "held", os.O_CREAT | os.O_EXCL))
            with lease.commit():
                pass
            os.unlink(folder / "held")
print("taken in turns", flush=True)
"""


def test_without_flock_no_two_processes_hold_one_lease(tmp_path: Path) -> None:
    with (
        holder(tmp_path, before=NO_FLOCK, work=TURNS) as first,
        holder(tmp_path, before=NO_FLOCK, work=TURNS) as second,
    ):
        assert [said_by(first), said_by(second)] == ["taken in turns"] * 2


# Containers and hosts of one name


def in_a_container() -> tuple[str, ...]:
    """The command that starts another one among process ids of its own, under this host's name."""
    for user in ((), ("--user", "--map-root-user")):
        command = ("unshare", *user, "--pid", "--fork", "--mount-proc", "--kill-child")
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    pytest.skip("process ids cannot be separated here (unshare --pid)")


@pytest.mark.parametrize("before", ["", NO_FLOCK], ids=["flock", "no flock"])
def test_a_process_in_a_container_of_the_same_host_name_is_not_taken_for_dead(
    tmp_path: Path, before: str
) -> None:
    with holder(tmp_path, before=before, within=in_a_container()):
        leases = leases_of(tmp_path)
        assert not is_free(leases)
        seen = LeaseFile(tmp_path / "leases" / f"{NAME}.json").look()
        assert seen is not None and seen.owner is not None
        assert seen.owner.host == socket.gethostname() and seen.owner.pid < 10
        leases.clear()
        assert not is_free(leases), "the lease of a live process was cleared"


def test_a_lock_of_a_container_of_the_same_host_name_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="there is no flock to be refused")
    stay = "with lease.commit():\n        print('in the section', flush=True); time.sleep(60)"
    with holder(tmp_path, before=NO_FLOCK, work=stay, within=in_a_container()) as process:
        assert said_by(process) == "in the section"

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, "no locks here")

        monkeypatch.setattr(fcntl, "flock", refuse)
        with pytest.raises(Held, match="has held the lock"), guarded(tmp_path / "lock", wait=1.0):
            pytest.fail("two processes in one critical section")


def test_a_process_is_called_dead_only_where_its_number_means_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = ProcessId.current()
    gone = ProcessId(me.host, 2**30, me.machine, "1")
    assert gone.has_ended() and not me.has_ended()
    for elsewhere in (
        ProcessId("elsewhere", gone.pid, me.machine, "1"),
        ProcessId(me.host, gone.pid, "another boot or namespace", "1"),
        ProcessId(me.host, gone.pid, None, None),
    ):
        assert not elsewhere.has_ended()
    if sys.platform == "linux":
        # A sandbox that hides /proc: two of them may share a host's name.
        monkeypatch.setattr(processes, "_machine", lambda: None)
        assert not ProcessId(me.host, gone.pid, None, None).has_ended()


def test_a_process_of_another_user_that_proc_hides_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = ProcessId.current()
    monkeypatch.setattr(processes, "_machine", lambda: me.machine)
    monkeypatch.setattr(processes, "_PROC", tmp_path)  # as with hidepid: nothing of others is there
    parent = ProcessId(me.host, os.getppid(), me.machine, "1")
    assert not parent.has_ended()
    assert ProcessId(me.host, 2**30, me.machine, "1").has_ended()


# Holders that are stopped and wake up


@pytest.mark.usefixtures("impatient")
def test_a_holder_that_was_stopped_replaces_nothing_when_it_wakes_up(tmp_path: Path) -> None:
    with holder(tmp_path, work=WRITE_WHEN_TOLD) as process:
        process.send_signal(signal.SIGSTOP)
        leases = leases_of(tmp_path)
        assert is_free_within(leases, 20.0)
        with leases.claim(NAME) as lease:
            assert lease is not None
            write_whole(tmp_path / "result", "the new holder's", lease=lease)
            process.send_signal(signal.SIGCONT)
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert said_by(process) == "lost True"
            with lease.commit():
                pass
    assert (tmp_path / "result").read_text() == "the new holder's"
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.usefixtures("impatient")
def test_a_holder_that_was_stopped_learns_from_its_next_heartbeat(tmp_path: Path) -> None:
    watch = "while not lease.lost: time.sleep(0.02)\n    print('noticed', flush=True)"
    with holder(tmp_path, work=watch) as process:
        process.send_signal(signal.SIGSTOP)
        leases = leases_of(tmp_path)
        assert is_free_within(leases, 20.0)
        with leases.claim(NAME):
            process.send_signal(signal.SIGCONT)
            assert said_by(process) == "noticed"
