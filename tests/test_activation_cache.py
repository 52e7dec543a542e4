"""The activation cache: the same batches to the bit, one reading for several sites, and no harm."""

import errno
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from listening import Told
from small_run import small_plan, weights_of
from torch import Tensor

from abench.config import DataSpec, TrainingSpec
from abench.data.activation_cache import ActivationCache, CachedRows
from abench.data.activations import ActivationStream
from abench.data.cache_folder import MARK, Users, make_folder
from abench.data.cache_room import Room
from abench.data.shards import read_shard, write_shard
from abench.errors import UserError
from abench.lm.models import LanguageModel
from abench.results.store import Store
from abench.runs.activation_caching import ActivationCaching, needed_bytes
from abench.runs.group_training import train_missing
from abench.runs.plan import Plan
from abench.runs.runner import run_plan
from abench.storage.sealed import Damaged
from abench.tinyworld import MODEL_DIR, World

SITE, OTHERS = "blocks.2.hook_resid_post", ("blocks.0.hook_resid_post", "blocks.3.hook_mlp_out")
SITES = (OTHERS[0], SITE, OTHERS[1])
CONTEXT = 16
SPEC = TrainingSpec(tokens=1500, batch_size=100, buffer_tokens=700)
GIB = 2**30


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@contextmanager
def cached_rows(
    lm: LanguageModel, folder: Path, sites: tuple[str, ...] = (), *, size: int = GIB
) -> Iterator[tuple[CachedRows, list[str]]]:
    said: list[str] = []
    with ActivationCache.open(folder, size, said.append) as opened:
        yield CachedRows(opened, lm, "weights", sites), said


@contextmanager
def rows_read(lm: LanguageModel) -> Iterator["Counter[tuple[int, ...]]"]:
    """How often the model has read each row of tokens."""
    seen: Counter[tuple[int, ...]] = Counter()

    def count(_module: Any, _args: Any, kwargs: Any) -> None:
        seen.update(map(tuple, kwargs["input_ids"].tolist()))

    handle = lm.model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def corpus(folder: Path, documents: int, **more: Any) -> DataSpec:
    file = folder / "texts.jsonl"
    stream = World().texts("train")
    file.write_text("".join(json.dumps({"text": next(stream)}) + "\n" for _ in range(documents)))
    return DataSpec(source="file", dataset=str(file), held_out_documents=3, **more)


def stream_of(
    lm: LanguageModel, data: DataSpec, rows: CachedRows | None, site: str = SITE, **changes: Any
) -> ActivationStream:
    spec = SPEC.model_copy(update=changes)
    return ActivationStream(lm, site, data, spec, context=CONTEXT, row_activations=rows)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def assert_equal(left: list[Tensor], right: list[Tensor]) -> None:
    assert len(left) == len(right)
    assert all(torch.equal(one, other) for one, other in zip(left, right, strict=True))


# The same batches


@pytest.mark.parametrize(
    "changes",
    [{"normalisation": "scale"}, {"normalisation": "layer_norm"}, {"normalisation": "none"}],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
@pytest.mark.parametrize("epochs", [1, 2])
def test_the_same_batches_to_the_end_of_the_text(
    tiny: LanguageModel, tmp_path: Path, changes: dict[str, Any], epochs: int
) -> None:
    data = corpus(tmp_path, 140, epochs=epochs)
    without = list(stream_of(tiny, data, None, **changes).batches())
    with cached_rows(tiny, tmp_path / "cache") as (rows, _):
        assert_equal(list(stream_of(tiny, data, rows, **changes).batches()), without)
        # The first block comes again for calibration, and is not read again.
        assert rows.found > 0
    with cached_rows(tiny, tmp_path / "cache") as (rows, said), rows_read(tiny) as seen:
        assert_equal(list(stream_of(tiny, data, rows, **changes).batches()), without)
        assert rows.computed == 0 and not seen and not said


def test_other_batches_buffers_seeds_and_filters_share_it(tiny: LanguageModel, tmp_path: Path) -> None:
    data = corpus(tmp_path, 140)
    with cached_rows(tiny, tmp_path / "cache") as (rows, _):
        list(stream_of(tiny, data, rows).batches())
    for changes in ({"batch_size": 64, "buffer_tokens": 900}, {"seed": 5, "outlier_norm": 1.2}):
        with cached_rows(tiny, tmp_path / "cache") as (rows, _), rows_read(tiny) as seen:
            found = list(stream_of(tiny, data, rows, **changes).batches())
            assert not seen
        assert_equal(found, list(stream_of(tiny, data, None, **changes).batches()))


@pytest.mark.parametrize("start", [3, 7, 9, 14])
def test_a_restart_within_a_block(tiny: LanguageModel, tmp_path: Path, start: int) -> None:
    data = corpus(tmp_path, 140)
    whole = stream_of(tiny, data, None)
    running = whole.batches()
    for _ in range(start):
        next(running)
    where = whole.start_of(start)
    expected = list(running)
    # The first process computes up to the restart, the second one everything from there.
    with cached_rows(tiny, tmp_path / "cache") as (rows, _):
        first = stream_of(tiny, data, rows).batches()
        for _ in range(start):
            next(first)
    with cached_rows(tiny, tmp_path / "cache") as (rows, _):
        restarted = stream_of(tiny, data, rows)
        restarted.statistics = whole.statistics
        assert_equal(list(restarted.batches(start, block_start=where)), expected)
        assert rows.found > 0


def test_another_computation_has_entries_of_its_own(tiny: LanguageModel, tmp_path: Path) -> None:
    tokens = torch.arange(32).reshape(2, CONTEXT)
    with ActivationCache.open(tmp_path / "cache", GIB, print) as opened:
        for rows in (CachedRows(opened, tiny, "weights", ()), CachedRows(opened, tiny, "others", ())):
            rows(tokens, SITE, at_once=2)
            assert rows.found == 0
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(threads + 1)
            rows = CachedRows(opened, tiny, "weights", ())
            rows(tokens, SITE, at_once=2)
            assert rows.found == 0
        finally:
            torch.set_num_threads(threads)
        rows = CachedRows(opened, tiny, "weights", ())
        rows(tokens, SITE, at_once=2)
        assert rows.found == 2
        rows(tokens, SITE, at_once=1)  # another shape of the products
        rows(tokens + 1, SITE, at_once=2)
        rows(tokens, OTHERS[0], at_once=2)
        assert rows.found == 2


# Several sites


def test_several_sites_are_read_in_one_pass(tiny: LanguageModel, tmp_path: Path) -> None:
    data = corpus(tmp_path, 140)
    expected = {site: list(stream_of(tiny, data, None, site).batches()) for site in SITES}
    with cached_rows(tiny, tmp_path / "cache", SITES) as (rows, _), rows_read(tiny) as seen:
        for site in SITES:
            assert_equal(list(stream_of(tiny, data, rows, site).batches()), expected[site])
    assert seen and set(seen.values()) == {1}


def test_a_block_that_writes_to_its_input_does_not_change_a_lower_site(tiny: LanguageModel) -> None:
    tokens = torch.arange(32).reshape(2, CONTEXT)
    lower, upper = "blocks.1.hook_resid_post", "blocks.2.hook_resid_post"
    block = tiny.model.get_decoder().layers[2]
    handle = block.register_forward_pre_hook(lambda _module, args: (args[0].add_(1.0), None)[1])
    try:
        both = tiny.residuals(tokens, [lower, upper])
        assert torch.equal(both[lower], tiny.residual(tokens, lower))
        assert torch.equal(both[upper], tiny.residual(tokens, upper))
    finally:
        handle.remove()


# Damage and full disks


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    file, key = tmp_path / "set" / "shard.safetensors", "key"
    values = torch.randn(2, 3, 4).bfloat16()
    write_shard(file, values, key)
    whole = file.read_bytes()
    assert torch.equal(read_shard(file, key), values)
    with pytest.raises(Damaged):
        read_shard(file, "another key")
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(Damaged):
            read_shard(file, key)
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            read_shard(file, key)


def test_damaged_and_missing_shards_are_read_again(tiny: LanguageModel, tmp_path: Path) -> None:
    data = corpus(tmp_path, 140)
    with cached_rows(tiny, tmp_path / "cache") as (rows, _):
        expected = list(stream_of(tiny, data, rows).batches())
    first, second, third, *_ = shards(tmp_path / "cache")
    content = first.read_bytes()
    first.write_bytes(content[:-7] + b"x" + content[-6:])
    second.write_bytes(b"")
    third.unlink()
    with cached_rows(tiny, tmp_path / "cache") as (rows, said):
        assert_equal(list(stream_of(tiny, data, rows).batches()), expected)
        assert 0 < rows.computed <= 3 * 32
    assert sorted(sentence.split(" is damaged")[0] for sentence in said) == [str(first), str(second)]
    with cached_rows(tiny, tmp_path / "cache") as (rows, said):
        list(stream_of(tiny, data, rows).batches())
        assert rows.computed == 0 and not said


def test_a_full_disk_is_a_sentence_and_the_run_goes_on(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = corpus(tmp_path, 140)
    expected = list(stream_of(tiny, data, None).batches())
    written = 0
    whole = Path.write_bytes

    def write(self: Path, content: Any) -> int:
        nonlocal written
        written += 1
        if written > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return whole(self, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    with cached_rows(tiny, tmp_path / "cache", SITES) as (rows, said):
        assert_equal(list(stream_of(tiny, data, rows).batches()), expected)
    (sentence,) = said
    assert "cannot be written" in sentence and "No space left on device): the run goes on" in sentence
    assert written == 3 and len(shards(tmp_path / "cache")) == 2


# Size


def test_a_text_larger_than_the_cache_keeps_its_beginning(tiny: LanguageModel, tmp_path: Path) -> None:
    data = corpus(tmp_path, 140)
    with cached_rows(tiny, tmp_path / "whole") as (rows, _):
        expected = list(stream_of(tiny, data, rows).batches())
        read = rows.computed
    size = sum(file.stat().st_size for file in shards(tmp_path / "whole"))
    for _ in range(2):
        with cached_rows(tiny, tmp_path / "cache", size=size // 2) as (rows, said):
            assert_equal(list(stream_of(tiny, data, rows).batches()), expected)
            assert not said
        assert size // 4 < sum(f.stat().st_size for f in shards(tmp_path / "cache")) <= size // 2
    # The second run had half of it, because the first one did not push out its own beginning.
    assert read // 4 < rows.computed < read * 3 // 4


def test_what_was_used_longest_ago_is_removed_first(tmp_path: Path) -> None:
    folder, group = tmp_path / "cache", "0" * 64
    make_folder(folder)
    for number in range(6):
        file = folder / group / f"{number}.safetensors"
        write_shard(file, torch.zeros(1000), "key")
        os.utime(file, (1000 + number, 1000 + number))
    left_over = folder / group / f".9.safetensors.{'0' * 32}"  # by a process that was killed while writing
    left_over.write_bytes(bytes(4000))
    os.utime(left_over, (999, 999))
    mine = folder / group / "notes.txt"
    mine.write_text("not a shard")
    each = (folder / group / "0.safetensors").stat().st_size
    users = Users(folder)
    room = Room(folder, 7 * each, users)
    assert not room.take(each * 3), "nothing is removed for a process that is not registered"
    room = Room(folder, 7 * each, users)
    with users.registered():
        assert room.take(each * 3)
        assert [file.name for file in shards(folder)] == [f"{n}.safetensors" for n in (2, 3, 4, 5)]
        assert not left_over.exists() and mine.exists()


def test_what_a_running_process_has_used_stays(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    code = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from abench.data.activation_cache import ActivationCache\n"
        "folder = Path(sys.argv[1])\n"
        "with ActivationCache.open(folder, 10**9, print) as opened:\n"
        "    opened.put('a' * 64, 'b' * 64, torch.zeros(1000), {'site': 'any'})\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        with ActivationCache.open(folder, 6000, print) as opened:
            assert not opened.takes(5000)
        # A process that is killed does not hold its shards any longer.
        process.kill()
        process.wait()
        time.sleep(0.05)
        with ActivationCache.open(folder, 6000, print) as opened:
            assert opened.takes(5000)
        assert shards(folder) == []
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


# Several processes

_READER = """
import sys, torch
from pathlib import Path
from abench.config import DataSpec
sys.path.insert(0, sys.argv[4])
torch.set_num_threads(1)
import test_activation_cache as t
lm = t.LanguageModel.load(t.MODEL_DIR, name="tiny", eos_after_documents=True)
data = DataSpec.model_validate_json(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with t.cached_rows(lm, Path(sys.argv[1]), t.SITES) as (rows, said):
    found = list(t.stream_of(lm, data, rows, sys.argv[3]).batches())
torch.save(found, sys.argv[1] + sys.argv[3] + ".pt")
print(said, flush=True)
"""


@pytest.mark.slow
def test_two_processes_write_at_once(tiny: LanguageModel, tmp_path: Path) -> None:
    data, folder = corpus(tmp_path, 140), tmp_path / "cache"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _READER, folder, data.model_dump_json(), site, Path(__file__).parent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for site in SITES[:2]
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert outputs == ["[]\n", "[]\n"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for site in SITES[:2]:
            found = torch.load(f"{folder}{site}.pt")
            assert_equal(found, list(stream_of(tiny, data, None, site).batches()))
        with cached_rows(tiny, folder, SITES) as (rows, said):
            for site in SITES:
                list(stream_of(tiny, data, rows, site).batches())
            assert rows.computed == 0 and not said
    finally:
        torch.set_num_threads(threads)


# Runs


def of_the_cache(told: Told) -> list[str]:
    return [sentence for sentence in told.said if "activation" in sentence]


def plan_of(cache: object, **changes: object) -> Plan:
    return small_plan(**{"layers": (0, 2, 3), "variants": ("topk",), "activation_cache": cache} | changes)


def train(plan: Plan, store: Store, lm: LanguageModel) -> Told:
    told = Told()
    sites = [group.site for group in plan.groups]
    with ActivationCaching.of_run(plan, store, told) as caching:
        for group in plan.groups:
            train_missing(
                *(group.saes, lm, store, told),  # type: ignore[arg-type]
                device="cpu",
                checkpoint_seconds=1e6,
                row_activations=caching.rows(lm, lambda: sites),
            )
    return told


def test_seeds_and_presets_and_sites_share_one_reading(tiny: LanguageModel, tmp_path: Path) -> None:
    def store(name: str) -> Store:
        return Store.open(tmp_path / name, create=True)

    cache = {"folder": str(tmp_path / "cache"), "size_gib": 1}
    plain, first = plan_of(None), plan_of(cache)
    with rows_read(tiny) as without:
        train(plain, store("plain"), tiny)
    with rows_read(tiny) as seen:
        told = train(first, store("first"), tiny)
    assert set(seen.values()) == {1} and set(seen) == set(without)
    assert sum(without.values()) == 3 * len(seen)
    assert [sae.key for sae in plain.saes] == [sae.key for sae in first.saes]
    assert weights_of(plain, store("plain")) == weights_of(first, store("first"))
    took = sum(file.stat().st_size for file in shards(tmp_path / "cache"))
    per_site, sites = needed_bytes(first)
    assert sites == 3 and 0.9 < took / (per_site * sites) < 1.1
    assert f"found in it, and the model read {len(seen)}" in told.said[-1]
    changes: dict[str, object] = {"seeds": (1, 2), "training__normalisation": "layer_norm"}
    other = plan_of(cache, **changes, training__batch_size=256)
    with rows_read(tiny) as seen:
        train(other, store("other"), tiny)
    assert not seen
    again = plan_of(None, **changes, training__batch_size=256)
    train(again, store("again"), tiny)
    assert weights_of(other, store("other")) == weights_of(again, store("again"))


def test_a_temporary_cache_is_gone_at_the_end(tiny: LanguageModel, tmp_path: Path) -> None:
    plan = plan_of("temporary:1")
    store, told = Store.open(tmp_path / "results", create=True), Told()
    assert run_plan(plan, store, progress=told, lm=tiny).computed == 3
    announced, done = of_the_cache(told)
    assert "activation cache in the results folder, at most 1.0 GiB" in announced
    assert "at 3 sites; it holds 0.0 MiB now" in announced
    assert done.endswith("the model read 128") and "256 of 384 rows" in done
    assert not store.activations_folder.exists()
    # Nothing is trained any more, so nothing is opened.
    told = Told()
    assert run_plan(plan, store, progress=told).cached == 3
    assert not of_the_cache(told)


def test_a_temporary_cache_outlives_a_run_that_is_stopped(tiny: LanguageModel, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "results", create=True)
    with pytest.raises(KeyboardInterrupt), ActivationCaching.of_run(plan_of("temporary"), store, Told()) as c:
        rows = c.rows(tiny, lambda: SITES)
        assert rows is not None
        rows(torch.arange(32).reshape(2, CONTEXT), SITE, at_once=2)
        raise KeyboardInterrupt
    assert len(shards(store.activations_folder)) == 3
    run_plan(plan_of("temporary"), store, progress=Told(), lm=tiny)
    assert not store.activations_folder.exists()


def test_a_cache_that_is_too_small_says_so(tiny: LanguageModel, tmp_path: Path) -> None:
    plan = plan_of({"folder": str(tmp_path / "cache"), "size_gib": 0.0035})
    told = train(plan, Store.open(tmp_path / "results", create=True), tiny)
    announced, done = of_the_cache(told)
    assert "of it is cached and the model reads the rest once per site" in announced
    assert f"(--activation-cache {tmp_path / 'cache'}:1 would hold all)" in announced
    assert "128 of 384 rows of text were found" in done
    assert sum(file.stat().st_size for file in shards(tmp_path / "cache")) <= 0.0035 * GIB


def test_a_synthetic_model_needs_no_cache(tmp_path: Path) -> None:
    plan = small_plan(
        model="synthetic-toy", tasks=("recovery",), variants=("topk",), activation_cache=str(tmp_path / "c")
    )
    told = Told()
    run_plan(plan, Store.open(tmp_path / "results", create=True), progress=told)
    (sentence,) = of_the_cache(told)
    assert sentence.startswith("activation_cache has no effect") and "reads no text" in sentence
    assert not (tmp_path / "c").exists()


def _file(place: Path) -> None:
    place.write_text("")


def _others(place: Path) -> None:
    place.mkdir()
    (place / "thesis.tex").write_text("")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [(_file, "File exists): choose another folder"), (_others, "because it holds other files (thesis.tex)")],
)
def test_a_folder_that_cannot_be_a_cache(tmp_path: Path, make: Callable[[Path], None], sentence: str) -> None:
    make(tmp_path / "place")
    store = Store.open(tmp_path / "results", create=True)
    with pytest.raises(UserError) as raised:
        run_plan(plan_of(str(tmp_path / "place")), store)
    assert sentence in str(raised.value)
    assert not (tmp_path / "place" / MARK).exists()


@pytest.mark.parametrize(
    ("given", "folder", "size"),
    [("c", "c", 50.0), ("c:2.5", "c", 2.5), ("a:b", "a:b", 50.0), ("temporary:3", "temporary", 3.0)],
)
def test_the_ways_to_write_it(given: str, folder: str, size: float) -> None:
    spec = plan_of(given).config.activation_cache
    assert spec is not None and (spec.folder, spec.size_gib) == (folder, size)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("c:5GB", "the size is a number of GiB, e.g. c:50, not '5GB'"),
        ("c:0", "must be above 0"),
        ({"folder": "c", "size": 3}, "unknown key"),
    ],
)
def test_mistakes(given: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plan_of(given)
