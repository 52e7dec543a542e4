"""Workers that are actors on a Ray cluster."""

from collections.abc import Callable
from typing import Any

from abench.executors.events import Died, Event, Ready, Refused, Shown
from abench.executors.ray_cluster import Connected, Request
from abench.executors.worker import Setup, Worker, attempt

MOST_WAITING = 4
"""Actors that wait for a node: they show an autoscaler that nodes are wanted, and use a node that joins."""
_SECONDS_FOR_EVENTS = 5.0


class Board:
    """An actor to which workers report, so that the driver can fetch all reports at once."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Shown]] = []

    def post(self, worker: str, event: Shown) -> None:
        self._events.append((worker, event))

    def take(self) -> list[tuple[str, Shown]]:
        events, self._events = self._events, []
        return events


class RayWorker:
    """An actor that computes shares. Its methods return what an exception of ours would say."""

    def __init__(self, setup: Setup, name: str, board: Any) -> None:
        self._setup, self._name, self._board = setup, name, board
        self._made: list[Worker] = []

    def start(self) -> Event:
        def make() -> Ready:
            self._made.append(Worker(self._setup, lambda event: self._board.post.remote(self._name, event)))
            return self._made[0].about()

        return attempt(make)

    def compute(self, share: bytes) -> Event:
        return attempt(lambda: self._made[0].compute(share))


class RayPool:
    """Workers on a cluster: as many as are wanted and as nodes have room for, nodes that join later "
    "included."""

    def __init__(
        self, cluster: Connected, setup: Setup, request: Request, say: Callable[[str], None]
    ) -> None:
        ray = cluster.ray
        self._ray, self._setup, self._request, self._say = ray, setup, request, say
        self._logs = cluster.logs
        self._board = ray.remote(Board).options(num_cpus=0).remote()
        self._actors: dict[str, Any] = {}
        self._titles: dict[str, str] = {}
        """Of the workers that have started."""
        self._calls: dict[Any, str] = {}
        """The worker of each call whose result has not arrived."""
        self._started = 0
        self._lonely = False

    def keep(self, wanted: int) -> None:
        while len(self._actors) < wanted and len(self._actors) - len(self._titles) < MOST_WAITING:
            self._start()
        if not self._titles and not self._lonely and not self._has_room():
            self._lonely = True
            self._say(
                f"no node of the cluster has room for a worker ({self._request}): waiting for one to join"
            )

    def _has_room(self) -> bool:
        from abench.executors.ray_cluster import nodes_of

        return any(self._request.fits(node) for node in nodes_of(self._ray))

    def _start(self) -> None:
        self._started += 1
        worker, request = str(self._started), self._request
        options = {"num_cpus": request.cpus, "num_gpus": request.gpus, "memory": request.memory}
        actor = self._ray.remote(RayWorker).options(max_restarts=0, **options)
        self._actors[worker] = actor.remote(self._setup, worker, self._board)
        self._calls[self._actors[worker].start.remote()] = worker

    def send(self, worker: str, share: bytes) -> None:
        self._calls[self._actors[worker].compute.remote(share)] = worker

    def title(self, worker: str) -> str:
        return self._titles.get(worker, f"worker {worker}")

    def events(self, timeout: float) -> list[tuple[str, Event]]:
        ready, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=timeout)
        found: list[tuple[str, Event]] = []
        # What a worker has shown comes before its result, after which its bars are gone.
        found += [(w, e) for w, e in self._shown() if w in self._actors]
        for call in ready:
            worker = self._calls.pop(call)
            event = self._result(call)
            if isinstance(event, Ready):
                self._titles[worker] = f"{event.host}, process {event.pid}"
            found.append((worker, event))
        return found

    def _shown(self) -> list[tuple[str, Shown]]:
        try:
            taken: list[tuple[str, Shown]] = self._ray.get(
                self._board.take.remote(), timeout=_SECONDS_FOR_EVENTS
            )
        except self._ray.exceptions.GetTimeoutError:
            return []
        except self._ray.exceptions.RayActorError:
            self._board = self._ray.remote(Board).options(num_cpus=0).remote()  # its node has gone
            return []
        return taken

    def _result(self, call: Any) -> Event:
        errors = self._ray.exceptions
        try:
            event: Event = self._ray.get(call)
        except errors.RayActorError as error:
            first = " ".join(str(error).split())
            if error.actor_init_failed:
                return Refused(f"cannot start: {first[-300:]}")
            return Died(first[:120])
        except (errors.NodeDiedError, errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            return Died(" ".join(str(error).split())[:120])
        return event

    def advice(self) -> str:
        return f" (Ray's logs of this machine are in {self._logs}; raylet*.err tells why a worker ends)"

    def forget(self, worker: str) -> None:
        self._ray.kill(self._actors.pop(worker))
        self._titles.pop(worker, None)
        self._lonely = False
        for call in [call for call, owner in self._calls.items() if owner == worker]:
            del self._calls[call]

    def stop(self) -> None:
        for actor in (*self._actors.values(), self._board):
            self._ray.kill(actor)
        self._actors.clear()
        self._calls.clear()
