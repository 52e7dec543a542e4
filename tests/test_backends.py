"""Every guarantee of `abench.storage.backend`, for each kind of store; and a whole run on each."""

import gc
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from small_run import data_of, small_plan, weights_of

from abench.errors import UserError
from abench.results.drivers import driving
from abench.results.jobs import Cell
from abench.results.store import Record, Store
from abench.runs import group_training
from abench.runs.plan import Plan
from abench.runs.runner import run_plan
from abench.storage.backend import Backend
from abench.storage.bundle import Bundle
from abench.storage.claims import LeaseLost
from abench.storage.folder import FolderBackend
from abench.storage.memory import MemoryBackend
from abench.storage.opening import backend_at
from abench.storage.sealed import Damaged, content_of, sealed_text

NAME = "cells/m/s/l/a.json"
TEXT = sealed_text({"value": "ä"})
_SIZES = {"training__tokens": 1024, "training__batch_size": 256, "training__buffer_tokens": 512}


class Kind(Protocol):
    """A kind of store, and how a test makes happen what is no part of the interface."""

    backend: Backend

    def take_away(self, lease: str) -> None:
        """End a lease without its holder, as if it had been silent for too long."""

    def overwrite(self, name: str, content: bytes) -> None:
        """Change the bytes of a value behind the store's back."""


class InFolder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.backend = FolderBackend(root)

    def take_away(self, lease: str) -> None:
        os.utime(self.root / "leases" / f"{lease}.json", (time.time() - 2 * 86_400,) * 2)
        with FolderBackend(self.root).leases.claim(lease) as taken:
            assert taken is not None

    def overwrite(self, name: str, content: bytes) -> None:
        (self.root / name).write_bytes(content)


class InMemory:
    def __init__(self) -> None:
        self.backend = MemoryBackend()

    def take_away(self, lease: str) -> None:
        self.backend.leases.revoke(lease)

    def overwrite(self, name: str, content: bytes) -> None:
        self.backend._put(name, content)


@pytest.fixture(params=["folder", "memory"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    return InMemory() if request.param == "memory" else InFolder(tmp_path / "store")


@pytest.fixture
def backend(kind: Kind) -> Backend:
    return kind.backend


def bundle(backend: Backend, name: str, **files: str) -> Bundle:
    """A bundle that has been published with these files."""
    made = Bundle(backend, name)
    draft = made.draft(None)
    for file, text in files.items():
        (draft / file).write_text(text)
    made.publish(draft, None)
    return made


def files_of(made: Bundle) -> dict[str, str]:
    with made.local() as folder:
        return {file.name: file.read_text() for file in folder.iterdir()}


# Values


def test_a_value_is_read_as_it_was_written(backend: Backend) -> None:
    assert not backend.exists(NAME)
    backend.write(NAME, TEXT)
    assert backend.exists(NAME) and backend.read(NAME) == TEXT.encode()
    assert content_of(backend.read(NAME)) == {"value": "ä"}
    backend.write(NAME, "other")
    assert backend.read(NAME) == b"other"
    backend.remove(NAME)
    backend.remove(NAME)
    assert not backend.exists(NAME)


@pytest.mark.parametrize("read", ["read", "stamp", "digest"])
def test_what_is_not_there_is_not_found(backend: Backend, read: str) -> None:
    for name in (NAME, "nothing", f"{NAME}/below"):
        with pytest.raises(FileNotFoundError):
            getattr(backend, read)(name)


def test_a_stamp_and_a_digest_change_with_the_value(backend: Backend) -> None:
    backend.write(NAME, "one")
    stamp, digest = backend.stamp(NAME), backend.digest(NAME)
    assert (backend.stamp(NAME), backend.digest(NAME)) == (stamp, digest)
    assert (stamp.size, len(digest)) == (3, 64)
    backend.write(NAME, "two")
    assert backend.stamp(NAME) != stamp and backend.digest(NAME) != digest
    assert abs(backend.now_ns() - backend.stamp(NAME).modified_ns) < 60e9


def test_secrets_are_not_written(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef0123456789abcdef")
    backend.write(NAME, "the key is sk-0123456789abcdef0123456789abcdef")
    assert b"0123456789" not in backend.read(NAME)


def test_a_bundle_in_the_place_of_a_value_is_replaced(backend: Backend) -> None:
    bundle(backend, NAME, file="x")
    backend.write(NAME, TEXT)
    assert backend.read(NAME) == TEXT.encode() and not backend.exists(f"{NAME}/file")


def test_a_reader_never_sees_a_part(backend: Backend) -> None:
    """One thread writes long values of one letter, others read; a mixture would fail its checksum."""
    texts = [sealed_text({"value": letter * 100_000}) for letter in "ab"]
    backend.write(NAME, texts[0])
    done, wrong = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            try:
                content_of(backend.read(NAME))
            except (Damaged, FileNotFoundError) as error:
                wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(20):
        backend.write(NAME, texts[turn % 2])
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_concurrent_writers_leave_a_whole_value_and_nothing_else(backend: Backend) -> None:
    texts = [sealed_text({"value": letter * 1000}) for letter in "abcd"]
    threads = [threading.Thread(target=backend.write, args=(NAME, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.read(NAME).decode() in texts
    assert backend.names("cells/m/s/l", 1) == [NAME]


# Listing


def test_names_are_listed_by_their_depth_in_the_order_of_their_parts(backend: Backend) -> None:
    for name in ("cells/a-b/x", "cells/a/y", "cells/a/x", "top", "cells/z"):
        backend.write(name, TEXT)
    bundle(backend, "cells/a/bundle", file="x")
    assert backend.names("", 1) == ["cells", "top"]
    assert backend.names("cells", 1) == ["cells/a", "cells/a-b", "cells/z"]
    assert backend.names("cells", 2) == ["cells/a/bundle", "cells/a/x", "cells/a/y", "cells/a-b/x"]
    assert backend.names("cells", 3) == ["cells/a/bundle/file"]
    assert backend.names("cell", 1) == backend.names("cells/a/x", 1) == backend.names("nothing", 2) == []


def test_drafts_are_not_listed(backend: Backend) -> None:
    backend.write("saes/a", TEXT)
    with backend.leases.claim("work") as lease:
        for draft in (backend.draft("saes/b", lease=lease), backend.draft("saes/c")):
            (draft / "file").write_text("half")
    assert backend.names("saes", 1) == ["saes/a"] and backend.names("saes", 2) == []


# Bundles


def test_a_bundle_is_replaced_as_a_whole(backend: Backend) -> None:
    made = bundle(backend, "saes/a", weights="1", old="x")
    assert made.exists() and made.has("weights") and made.read("old") == b"x"
    assert files_of(made) == {"weights": "1", "old": "x"}
    bundle(backend, "saes/a", weights="2")
    assert files_of(made) == {"weights": "2"} and not made.has("old")
    made.remove(None)
    assert not made.exists()
    with pytest.raises(FileNotFoundError), made.local():
        pass


def test_the_previous_bundle_gets_another_name(backend: Backend) -> None:
    made = bundle(backend, "checkpoints/k", step="1")
    before = made.beside("before")
    assert before.name == "checkpoints/.k.before"
    draft = made.draft(None)
    (draft / "step").write_text("2")
    made.publish(draft, None, previous=before)
    assert not draft.exists()
    assert (files_of(made), files_of(before)) == ({"step": "2"}, {"step": "1"})
    made.remove(None)
    draft = made.draft(None)
    (draft / "step").write_text("3")
    made.publish(draft, None, previous=before)  # there is nothing to rename, so this stays
    assert (files_of(made), files_of(before)) == ({"step": "3"}, {"step": "1"})


def test_a_bundle_that_is_read_stays_readable_while_it_is_replaced(backend: Backend) -> None:
    made = bundle(backend, "saes/a", weights="1" * 100_000)
    with made.local() as folder, (folder / "weights").open() as stream:
        assert stream.read(1) == "1"
        bundle(backend, "saes/a", weights="2" * 100_000)
        assert set(stream.read()) == {"1"}


def test_a_draft_of_the_same_lease_starts_empty(backend: Backend) -> None:
    with backend.leases.claim("work") as lease:
        (backend.draft("saes/a", lease=lease) / "half").write_text("x")
        assert list(backend.draft("saes/a", lease=lease).iterdir()) == []


# Leases


def test_a_lease_is_held_by_one(backend: Backend) -> None:
    leases = backend.leases
    with leases.claim("a") as first, leases.claim("a") as second, leases.claim("b") as other:
        assert first is not None and second is None and other is not None
        assert not first.lost and len(first.token) == 32
        assert leases.holder("a") == leases.holders()["b"]
        assert str(os.getpid()) in str(leases.holder("a"))
    assert leases.holders() == {} and leases.holder("a") is None


def test_one_of_many_threads_gets_a_lease(backend: Backend) -> None:
    all_have_tried, got = threading.Barrier(4), []

    def work() -> None:
        with backend.leases.claim("a") as lease:
            got.append(lease is not None)
            all_have_tried.wait(60)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False, False, False, True]


Act = Callable[[Backend, Bundle, Path, object], None]
ACTS: dict[str, Act] = {
    "write": lambda backend, made, draft, lease: backend.write(NAME, "late", lease=lease),  # type: ignore[arg-type]
    "remove": lambda backend, made, draft, lease: made.remove(lease),  # type: ignore[arg-type]
    "publish": lambda backend, made, draft, lease: made.publish(draft, lease),  # type: ignore[arg-type]
    "publish, with a predecessor": lambda backend, made, draft, lease: made.publish(
        draft,
        lease,  # type: ignore[arg-type]
        previous=made.beside("before"),
    ),
}


@pytest.mark.parametrize("act", ACTS)
def test_who_lost_a_lease_changes_nothing(kind: Kind, act: str) -> None:
    backend = kind.backend
    backend.write(NAME, TEXT)
    made = bundle(backend, "saes/a", weights="1")
    with backend.leases.claim("work") as lease:
        assert lease is not None
        draft = made.draft(lease)
        (draft / "weights").write_text("late")
        kind.take_away("work")
        with backend.leases.claim("work") as newer:
            assert newer is not None
            with pytest.raises(LeaseLost):
                ACTS[act](backend, made, draft, lease)
            assert lease.lost and not newer.lost
            assert backend.read(NAME) == TEXT.encode()
            assert files_of(made) == {"weights": "1"} and not made.beside("before").exists()
            ACTS[act](backend, made, draft, newer)  # the newer one may
    assert backend.leases.holder("work") is None


def test_a_lost_lease_is_not_given_back_for_its_new_holder(kind: Kind) -> None:
    leases = kind.backend.leases
    with leases.claim("work"):
        kind.take_away("work")
        newer = leases.claim("work")
        assert newer.__enter__() is not None
    assert leases.holder("work") is not None
    newer.__exit__(None, None, None)


def test_stale_drafts_are_cleared_and_those_in_use_stay(kind: Kind) -> None:
    backend = kind.backend
    with backend.leases.claim("ended") as ended, backend.leases.claim("at work") as lease:
        stale, used = backend.draft("saes/a", lease=ended), backend.draft("saes/b", lease=lease)
        new = backend.draft("kept/c")
        kind.take_away("ended")
        backend.write("saes/d", TEXT)
        backend.clear(("saes",), ("kept",))
        assert (stale.exists(), used.exists(), new.exists()) == (False, True, True)
    assert backend.read("saes/d") == TEXT.encode()


# Everything else


def test_damage_is_found_by_the_readers_of_a_value(kind: Kind) -> None:
    kind.backend.write(NAME, TEXT)
    stamp = kind.backend.stamp(NAME)
    kind.overwrite(NAME, TEXT.replace("ä", "ö").encode() + b" ")
    assert kind.backend.stamp(NAME) != stamp
    with pytest.raises(Damaged):
        content_of(kind.backend.read(NAME))


def test_a_store_is_opened_by_its_place_or_cannot_be(kind: Kind) -> None:
    kind.backend.write(NAME, TEXT)
    assert kind.backend.is_there() and kind.backend.is_writable()
    if isinstance(kind, InFolder):
        assert backend_at(kind.backend.place).read(NAME) == TEXT.encode()
        assert kind.backend.shown(NAME) == str(kind.root / NAME) and kind.backend.shown("") == str(kind.root)
    else:
        with pytest.raises(UserError, match="results in memory cannot be shared"):
            _ = kind.backend.place


def test_a_folder_for_other_files_is_where_they_stay(backend: Backend) -> None:
    folder = backend.folder("reports/r")
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("x")
    assert (backend.folder("reports/r") / "index.html").read_text() == "x"


def test_what_a_store_in_memory_has_on_disk_goes_with_it() -> None:
    backend = MemoryBackend()
    folder, draft = backend.folder("reports"), backend.draft("saes/a")
    assert draft.exists()
    del backend
    gc.collect()
    assert not draft.exists() and not folder.parent.parent.exists()


# Results on every kind of store


@pytest.fixture(scope="module")
def plan() -> Plan:
    return small_plan(layers=(1,), variants=("abstopk", "batchtopk"), **_SIZES)


@pytest.fixture(scope="module")
def in_folder(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The results of the plan in a folder, of a run that wrote no checkpoints."""
    store = Store.open(tmp_path_factory.mktemp("results"), create=True)
    run_plan(plan, store)
    return store


@pytest.fixture
def store(kind: Kind) -> Store:
    return Store.on(kind.backend, create=True)


def test_a_whole_run_gives_the_same_weights_and_scores(
    plan: Plan, in_folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_training, "CHECKPOINT_SHARE", float("inf"))  # a checkpoint after every step
    in_memory = Store.in_memory()
    outcome = run_plan(plan, in_memory, checkpoint_seconds=0.0)
    assert (outcome.computed, outcome.failed) == (len(plan.cells), [])
    for store in (in_folder, in_memory):
        assert store.damaged == store.notices == []
        assert {store.sae_standing(sae) for sae in plan.saes} == {"done"}
        assert store.claims() == {} and store.backend.names("checkpoints", 1) == []
    assert weights_of(plan, in_memory) == weights_of(plan, in_folder)
    assert data_of(plan, in_memory) == data_of(plan, in_folder)
    assert {name for name in in_memory.backend.names("saes", 4) if "sae.json" not in name} == {
        name for name in in_folder.backend.names("saes", 4) if "sae.json" not in name
    }
    assert in_memory.cell_names() == in_folder.cell_names()
    again = run_plan(plan, in_memory)
    assert (again.computed, again.cached) == (0, len(plan.cells))


def test_an_interrupted_training_resumes_from_its_checkpoint(
    store: Store, plan: Plan, in_folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_training, "CHECKPOINT_SHARE", float("inf"))
    save = group_training._Group._save

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(group_training._Group, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, store, checkpoint_seconds=0.0)
    assert [store.checkpoint_step(sae) for sae in plan.saes] == [3, 3]
    monkeypatch.setattr(group_training._Group, "_save", save)
    run_plan(plan, store)
    assert weights_of(plan, store) == weights_of(plan, in_folder)
    assert [store.checkpoint_step(sae) for sae in plan.saes] == [None, None]


def record_of(cell: Cell) -> Record:
    return Record(cell.key, "done", cell.labels(), [], spec=cell.spec(), sae_key=cell.sae.key)


def test_a_damaged_cell_is_named_once_and_counts_as_missing(kind: Kind, store: Store, plan: Plan) -> None:
    cell = plan.cells[0]
    store.put(cell, record_of(cell))
    assert store.get(cell) == record_of(cell) and store.standing(cell) == "done"
    (name,) = store.cell_names()
    whole = kind.backend.read(name)
    kind.overwrite(name, whole[:-3])
    assert [store.get(cell), store.get_brief(cell)] == [None, None]
    assert store.standing(cell) == "damaged"
    assert [kind.backend.shown(name) in each for each in store.damaged] == [True]
    store.put(cell, record_of(cell))
    assert store.standing(cell) == "done" and [r for _, r in store.all_records()] == [record_of(cell)]


def test_a_damaged_cached_value_is_requested_again(kind: Kind, store: Store) -> None:
    kept, spec = store.kept(), {"question": 1}
    kept.put(spec, [1, 2])
    assert kept.get(spec) == [1, 2]
    (name,) = kind.backend.names("kept", 2)
    kind.overwrite(name, json.dumps({"spec": spec, "value": 3}).encode())
    assert kept.get(spec) is None and "requested or computed again" in store.damaged[0]


def test_a_checkpoint_of_a_saved_sae_is_cleared(store: Store, plan: Plan) -> None:
    saved, other = plan.saes
    run_plan(small_plan(layers=(1,), variants=("abstopk",), **_SIZES), store)
    for job in (saved, other):
        place = store.checkpoint(job)
        bundle(store.backend, place.name, state="x")
        bundle(store.backend, place.beside("before").name, state="x")
    store.clear_leftovers()
    left = {store.checkpoint(other).name, store.checkpoint(other).beside("before").name}
    assert set(store.backend.names("checkpoints", 1)) == left


def test_a_driver_with_other_versions_is_refused(store: Store) -> None:
    with driving(store, {"torch": "1"}):
        assert len(store.backend.names("drivers", 1)) == 1
        with pytest.raises(UserError, match=r"torch 2 here and 1 there"), driving(store, {"torch": "2"}):
            pass
    assert store.backend.names("drivers", 1) == []


def test_writers_of_one_cell_at_once(store: Store, plan: Plan) -> None:
    """One of them stores it; the others learn that they may not."""
    cell, lost = plan.cells[0], []

    def put() -> None:
        try:
            store.put(cell, record_of(cell))
        except LeaseLost:
            lost.append(True)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(cell) == record_of(cell) and len(lost) < 8
    assert store.claims() == {}
