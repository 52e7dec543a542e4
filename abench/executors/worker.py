"""What a worker does, wherever it runs: it opens the results folder and the model, and computes shares."""

from __future__ import annotations

import os
import pickle
import socket
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abench.errors import UserError, outside_cause
from abench.executors.events import Broke, Finished, Ready, Refused, Reporter, Shown
from abench.executors.shares import Share

if TYPE_CHECKING:
    from abench.runs.plan import Plan


_MEMORY_SHARE = 0.6
"""The part of a device's free memory that SAEs may take; the rest is for the model and activations."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know before its first share."""

    results: str
    """The place of the results (`Store.place`)."""
    token: str
    """Of the run (`abench.results.drivers`)."""
    device: str | None
    threads: int | None
    """Threads of torch; None: as torch chooses."""
    checkpoint_seconds: float
    plugins: tuple[str, ...] = ()
    room: int | None = None
    """Bytes that are set aside for SAEs; None: a part of what is free when the worker starts."""


def facts() -> dict[str, str]:
    """The versions that driver and workers must have in common."""
    from abench.runs.provenance import package_versions, source_fingerprint

    return {**package_versions(), "abench's source": source_fingerprint()}


def packed(share: Share, tried: Collection[str]) -> bytes:
    """A share as it is sent to a worker, with the keys on which the run has failed so far.

    Raises UserError for tasks or variants that only this process knows.
    """
    probes = {id(cell.task): cell.key for cell in share.plan.cells}
    try:
        return pickle.dumps((share.plan, share.trains, frozenset(tried), frozenset(probes.values())))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"the run cannot be sent to other processes ({error}): define its tasks and variants in an "
            "installed package or in a folder that is given with --plugins"
        ) from error


class Worker:
    """Computes shares one after the other; the model stays open between them."""

    def __init__(self, setup: Setup, send: Callable[[Shown], None]) -> None:
        """Raises UserError if the results folder is not shared, or the device or a plug-in cannot be used."""
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does
        from abench.foreign import own_output
        from abench.lm.devices import usable_device
        from abench.results.drivers import check_shared
        from abench.results.store import Store
        from abench.runs.model_opening import Models

        own_output()
        check_shared(setup.results, setup.token, socket.gethostname())
        self._setup = setup
        self._store = Store.open(setup.results, create=False)
        self._progress = Reporter(send)
        self._models = Models(self._progress)
        self._device = usable_device(setup.device)
        if setup.threads is not None:
            import torch

            torch.set_num_threads(setup.threads)
        _use_plugins(tuple(map(Path, setup.plugins)))

    def about(self) -> Ready:
        """What the driver wants to know of this worker."""
        room = self._setup.room
        return Ready(
            socket.gethostname(), os.getpid(), facts(), _room(self._device) if room is None else room
        )

    def compute(self, share: bytes) -> Finished:
        """Compute a share (`packed`). Raises UserError."""
        from abench.runs.runner import compute_share

        plan, trains, tried, keys = _unpacked(share)
        _check_keys(plan, keys)
        tried = compute_share(
            plan,
            self._store,
            progress=self._progress,
            device=self._device,
            checkpoint_seconds=self._setup.checkpoint_seconds,
            opener=self._models,
            tried=tried,
            only_train=trains,
        )
        return Finished(tried)


def attempt(work: Callable[[], Ready | Finished]) -> Ready | Finished | Refused | Broke:
    """The result of some work, or why there is none."""
    try:
        return work()
    except UserError as error:
        return Refused(str(error))
    except Exception as error:
        cause = outside_cause(error)
        return Broke(traceback.format_exc()) if cause is None else Refused(cause)


def _unpacked(share: bytes) -> tuple[Plan, bool, frozenset[str], frozenset[str]]:
    try:
        found: tuple[Plan, bool, frozenset[str], frozenset[str]] = pickle.loads(share)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{socket.gethostname()} does not have a task or variant of the run ({error}): install the same "
            "packages as on the machine that started it, or share the folder of --plugins"
        ) from error
    return found


def _check_keys(plan: Plan, keys: Collection[str]) -> None:
    """Raise UserError if cells have other keys here: a plug-in has another content."""
    from abench.storage.keys import canonical_json, digest_of

    for cell in plan.cells:
        if cell.key in keys and digest_of(canonical_json(cell.spec())) != cell.key:
            raise UserError(
                f"{cell.sae.label} · {cell.label} has another key on {socket.gethostname()} than on the "
                "machine that started the run: a plug-in has another content there"
            )


def _use_plugins(folders: tuple[Path, ...]) -> None:
    if not folders:
        return
    from abench.judges.registry import use_judges_in
    from abench.plugins import find_tasks
    from abench.variants.registry import find_variants

    use_judges_in(folders)
    find_tasks(folders)
    find_variants(folders)


def _room(device: str) -> int | None:
    """Bytes that SAEs may take of the free memory of a device; None if that is not known."""
    from abench.lm.devices import computing_device
    from abench.runs.machine_memory import available_bytes

    device = computing_device(device)
    if device.startswith("cuda"):
        import torch

        free: int | None = torch.cuda.mem_get_info(device)[0]
    else:
        free = available_bytes()
    return None if free is None else int(free * _MEMORY_SHARE)


def versions_complaint(host: str, theirs: Mapping[str, str]) -> str | None:
    """The sentence for a worker whose packages differ from this process's; None if none does."""
    from abench.results.drivers import different_versions

    different = different_versions(facts(), theirs)
    if different is None:
        return None
    return f"the worker on {host} has other versions of packages ({different}): install the same versions"
