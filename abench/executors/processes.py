"""Workers that are processes on this machine, one per device."""

import _thread
import os
import queue
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import cast

from abench.errors import OutputClosed
from abench.executors.events import Broke, Died, Event, Ready, Refused
from abench.executors.worker import Setup, Worker, attempt

_SECONDS_TO_STOP = 5.0
"""How long a worker may take to return its leases before it is ended."""


class Processes:
    """A worker process per device; one that ends is replaced."""

    def __init__(self, setups: Mapping[str, Setup]) -> None:
        """`setups` are the workers' setups by the device's name for the user."""
        self._setups = setups
        self._alive: dict[str, tuple[str, SpawnProcess, Connection]] = {}
        """By worker: its device's name, its process and the connection to it."""
        self._started = 0

    def keep(self, wanted: int) -> None:
        taken = {title for title, _, _ in self._alive.values()}
        free = [title for title in self._setups if title not in taken]
        for title in free[: max(0, wanted - len(taken))]:
            self._start(title)

    def _start(self, title: str) -> None:
        context = get_context("spawn")  # CUDA does not survive a fork
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._setups[title]), name=f"abench {title}")
        process.start()
        theirs.close()
        self._started += 1
        self._alive[str(self._started)] = (title, process, ours)

    def send(self, worker: str, share: bytes) -> None:
        with suppress(OSError):  # a worker that has ended is noticed by its connection
            self._alive[worker][2].send_bytes(share)

    def title(self, worker: str) -> str:
        return self._alive[worker][0]

    def events(self, timeout: float) -> list[tuple[str, Event]]:
        by_connection = {connection: worker for worker, (_, _, connection) in self._alive.items()}
        found: list[tuple[str, Event]] = []
        for ready in wait(list(by_connection), timeout):
            connection = cast(Connection, ready)
            found += [(by_connection[connection], event) for event in self._received(connection)]
        return found

    def _received(self, connection: Connection) -> list[Event]:
        events: list[Event] = []
        try:
            while connection.poll():
                events.append(connection.recv())
        except (EOFError, OSError):
            events.append(Died(self._cause_of(connection)))
        return events

    def _cause_of(self, connection: Connection) -> str:
        (process,) = (each for _, each, known in self._alive.values() if known is connection)
        process.join(_SECONDS_TO_STOP)
        code = process.exitcode
        if code is not None and code < 0:
            return f"by signal {signal.Signals(-code).name}"
        return f"with status {code}"

    def advice(self) -> str:
        return ""

    def forget(self, worker: str) -> None:
        """Release what belongs to a worker that has ended."""
        _, process, connection = self._alive.pop(worker)
        connection.close()
        process.join(0)
        process.close()

    def stop(self) -> None:
        for _, _, connection in self._alive.values():
            connection.close()
        for _, process, _ in self._alive.values():
            process.join(_SECONDS_TO_STOP)
            if process.is_alive():
                process.kill()
            process.join()
            process.close()
        self._alive.clear()


def serve(connection: Connection, setup: Setup) -> None:
    """The main function of a worker process: compute shares until the connection is closed."""
    if hasattr(os, "setsid"):
        # Ctrl-C reaches the driver alone, which then closes the connections.
        os.setsid()
    shares: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, shares), daemon=True).start()
    with suppress(KeyboardInterrupt):
        _serve(connection, setup, shares)


def _serve(connection: Connection, setup: Setup, shares: "queue.SimpleQueue[bytes | None]") -> None:
    def send(event: Event) -> None:
        try:
            connection.send(event)
        except OSError as error:
            raise OutputClosed from error  # ends the work as Ctrl-C does, instead of failing a cell

    made: list[Worker] = []

    def start() -> Ready:
        made.append(Worker(setup, send))
        return made[0].about()

    send(first := attempt(start))
    if isinstance(first, Refused | Broke):
        return
    while (share := shares.get()) is not None:
        send(attempt(lambda share=share: made[0].compute(share)))  # type: ignore[misc]


def _receive(connection: Connection, shares: "queue.SimpleQueue[bytes | None]") -> None:
    """Receive shares; when the driver closes the connection or ends, stop the work so that leases return."""
    with suppress(EOFError, OSError):
        while True:
            shares.put(connection.recv_bytes())
    shares.put(None)
    _thread.interrupt_main()
    time.sleep(_SECONDS_TO_STOP)
    os._exit(1)
