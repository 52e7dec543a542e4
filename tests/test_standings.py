"""Many cells: what is read, hashed and kept for the next process, counted instead of timed."""

import pickle
import shutil
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from damage import DAMAGES
from small_run import small_plan
from store_files import cell_file, root_of, sae_folder

from abench.cli.run import _dry_run
from abench.results.jobs import Job, _canonical_shared
from abench.results.store import Record, SAERecord, Store
from abench.runs.plan import Plan
from abench.runs.planner import RunRequest
from abench.runs.report_of_plan import records_of
from abench.storage import findings
from abench.storage.findings import FILE
from abench.storage.keys import begun_digest, key_of
from abench.storage.sealed import manifest_of, raw_of

SAE_FILES = ("cfg.json", "sae.json", "sae_weights.safetensors")


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Four SAEs with two cells each."""
    return small_plan(variants=("topk", "jumprelu"), seeds=(0, 1), tasks=("core", "sparse_probing"))


@pytest.fixture
def filled(plan: Plan, tmp_path: Path) -> Path:
    """A results folder with all SAEs and cells of the plan."""
    store = Store.open(tmp_path / "results", create=True)
    for sae in plan.saes:
        _put_sae(store, sae)
    for cell in plan.cells:
        packages = {"python": "3.11", "torch": "2"}
        provenance = {"device": "cpu", "packages": packages, "seconds": 1.0}
        record = Record(cell.key, "done", cell.labels(), [], spec=cell.spec(), provenance=provenance)
        store.put(cell, record)
    return root_of(store)


def _put_sae(store: Store, sae: Job) -> None:
    draft = store.draft_folder(sae)
    for name in set(SAE_FILES) - {"sae.json"}:
        (draft / name).write_bytes(sae.key.encode() * 3)
    record = SAERecord(sae.key, "done", sae.labels(), sae.spec(), files=manifest_of(draft))
    store.put_sae(sae, record, draft)


@pytest.fixture
def index_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write and use the index however little was read, and however new the files are."""
    monkeypatch.setattr(findings, "MUCH", -1)
    monkeypatch.setattr(findings, "_SETTLED_NS", -60_000_000_000)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    names: list[str] = []

    def counting(file: Path | str) -> bytes:
        names.append(Path(file).name)
        return raw_of(file)

    monkeypatch.setattr("abench.storage.folder.raw_of", counting)
    return names


def look(root: Path, plan: Plan) -> tuple[Store, Counter[str], Counter[str]]:
    """A new store, as of another process, and its standings of all cells and SAEs."""
    store = Store.open(root, create=False)
    cells = Counter(store.standing(cell) for cell in plan.cells)
    saes = Counter(store.sae_standing(sae) for sae in plan.saes)
    store.save_standings()
    return store, cells, saes


@pytest.mark.usefixtures("index_of_all")
def test_a_second_look_reads_no_record_and_hashes_no_weights(
    filled: Path, plan: Plan, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cells, saes = look(filled, plan)
    assert (cells, saes) == (Counter(done=8), Counter(done=4))
    assert len(opened) == 1 + 8 + 4 + 1  # the folder's mark, cells, SAEs, and the index, which is missing
    opened.clear()
    monkeypatch.setattr("abench.storage.folder.file_hash", lambda _: pytest.fail("a file was hashed"))
    assert look(filled, plan)[1:] == (cells, saes)
    assert opened == ["abench.json", FILE]


@pytest.mark.usefixtures("index_of_all")
def test_a_process_that_looks_again_reads_no_record(filled: Path, plan: Plan, opened: list[str]) -> None:
    store, *_ = look(filled, plan)
    opened.clear()
    assert {store.standing(cell) for cell in plan.cells} == {"done"}
    assert {store.sae_standing(sae) for sae in plan.saes} == {"done"}
    assert opened == []


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.usefixtures("index_of_all")
def test_damage_is_found_as_without_the_index(kind: str, filled: Path, plan: Plan) -> None:
    look(filled, plan)
    store = Store.open(filled, create=False)
    victims = [cell_file(store, plan.cells[0])]
    victims += [sae_folder(store, sae) / name for sae, name in zip(plan.saes, SAE_FILES, strict=False)]
    for file in victims:
        DAMAGES[kind](file)
    with_index, cells, saes = look(filled, plan)
    (filled / FILE).unlink()
    without, *standings = look(filled, plan)
    assert [cells, saes] == standings
    assert with_index.damaged == without.damaged
    assert cells == {"done": 7, "missing" if kind == "gone" else "damaged": 1}
    assert saes == {"done": 1, "damaged": 3}


@pytest.mark.usefixtures("index_of_all")
def test_a_record_that_another_run_replaces_is_read_again(filled: Path, plan: Plan) -> None:
    look(filled, plan)
    cell = plan.cells[0]
    store = Store.open(filled, create=False)
    record = store.get(cell)
    assert record is not None
    store.put(cell, replace(record, status="skipped"))
    assert look(filled, plan)[1] == Counter(done=7, skipped=1)


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.usefixtures("index_of_all")
def test_a_damaged_index_costs_only_time(kind: str, filled: Path, plan: Plan, opened: list[str]) -> None:
    look(filled, plan)
    DAMAGES[kind](filled / FILE)
    store, cells, saes = look(filled, plan)
    assert (cells, saes) == (Counter(done=8), Counter(done=4))
    assert [str(filled / FILE) in sentence for sentence in store.damaged] == [True] * (kind != "gone")
    opened.clear()
    assert look(filled, plan)[0].damaged == []
    assert opened == ["abench.json", FILE]


@pytest.mark.usefixtures("index_of_all")
def test_two_processes_that_write_the_index_leave_a_whole_one(filled: Path, plan: Plan) -> None:
    first, second = (Store.open(filled, create=False) for _ in range(2))
    for store, cells in ((first, plan.cells[:4]), (second, plan.cells[4:])):
        assert {store.standing(cell) for cell in cells} == {"done"}
    first.save_standings()
    second.save_standings()
    store, cells_found, saes = look(filled, plan)
    assert (cells_found, saes, store.damaged) == (Counter(done=8), Counter(done=4), [])


def test_files_that_had_just_changed_are_not_indexed(
    filled: Path, plan: Plan, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second change within the resolution of the file system's dates would not be seen.
    monkeypatch.setattr(findings, "MUCH", -1)
    look(filled, plan)
    opened.clear()
    look(filled, plan)
    assert len(opened) == 1 + 8 + 4 + 1


def test_a_small_folder_has_no_index(filled: Path, plan: Plan) -> None:
    look(filled, plan)
    assert not (filled / FILE).exists()


@pytest.mark.usefixtures("index_of_all")
def test_a_folder_that_cannot_be_written_is_left_without(filled: Path, plan: Plan) -> None:
    store = Store.open(filled, create=False)
    assert {store.standing(cell) for cell in plan.cells} == {"done"}
    shutil.rmtree(filled)
    store.save_standings()
    assert not filled.exists()


def test_the_part_of_an_sae_is_hashed_once_for_all_its_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []

    def counting(text: str) -> object:
        counted.append(text)
        return begun_digest(text)

    monkeypatch.setattr("abench.results.jobs.begun_digest", counting)
    many = small_plan(seeds=tuple(range(5)), tasks=("core", "sparse_probing", "absorption"))
    before = _canonical_shared.cache_info().misses
    keys = [cell.key for cell in many.cells]
    assert len(many.cells) > len(many.saes) == len(counted)
    # Model, variant and training become JSON once per variant, not once per seed.
    assert _canonical_shared.cache_info().misses - before == len(many.config.variants)
    assert keys == [key_of(cell.spec()) for cell in many.cells]


def test_a_plan_with_keys_can_be_sent_to_another_process(plan: Plan) -> None:
    keys = [cell.key for cell in plan.cells]
    sent: Plan = pickle.loads(pickle.dumps(plan))
    assert [cell.key for cell in sent.cells] == keys
    assert [key_of(cell.spec()) for cell in sent.cells] == keys


def test_a_report_reads_each_record_once_and_shares_what_is_equal(
    filled: Path, plan: Plan, opened: list[str]
) -> None:
    records = records_of(plan, Store.open(filled, create=False))
    assert len(opened) == 1 + len(plan.cells)
    provenances = [record["provenance"] for record in records]
    assert provenances[0] == {"device": "cpu", "seconds": 1.0, "packages": {"python": "3.11", "torch": "2"}}
    assert len({id(each["packages"]) for each in provenances}) == 1


def test_brief_records_parse_equal_packages_once(filled: Path, plan: Plan) -> None:
    store = Store.open(filled, create=False)
    briefs = [store.get_brief(cell) for cell in plan.cells]
    assert len({id(brief.provenance["packages"]) for brief in briefs if brief}) == 1
    assert [store.get(cell).provenance for cell in plan.cells] == [b.provenance for b in briefs if b]  # type: ignore[union-attr]


def test_a_dry_run_that_finds_nothing_to_do_looks_for_no_device(
    filled: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Looking for devices imports torch, which takes longer than everything else.
    # By name, because `abench.cli.run` is also the command of that name.
    monkeypatch.setattr(import_module("abench.cli.run"), "plan_of", lambda *_, **__: plan)
    monkeypatch.setattr("abench.lm.devices.usable_device", lambda _: pytest.fail("torch is imported"))
    _dry_run(RunRequest(), filled, None, calibration=True)
    assert "nothing is computed" in capsys.readouterr().out
