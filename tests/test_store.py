"""The results folder: atomic, self-describing, unbothered by damage."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_files import cell_file, root_of, sae_folder

from abench.config import DataSpec, EvaluationSpec, ModelConfig, RunConfig
from abench.errors import UserError
from abench.plugins import find_tasks, get_task
from abench.results.finding import find_cells
from abench.results.jobs import Cell, Scoring
from abench.results.store import Record, SAERecord, Store
from abench.runs.plan import Plan, make_plan
from abench.storage.keys import canonical_json, difference, key_of
from abench.storage.sealed import write_sealed
from abench.variants import get_variant

MODEL = ModelConfig(
    title="M",
    weights="x",
    n_layers=4,
    d_model=32,
    layers=(1, 2),
    k=(4,),
    data=DataSpec(source="tinyworld", dataset=None),
)


def plan(**changes: object) -> Plan:
    config = RunConfig.model_validate(
        {"variants": ("abstopk", "topk"), "k": (4, 8), "seeds": (0, 1)} | changes
    )
    variants = {name: get_variant(name, {}) for name in config.variants}
    tasks = {name: get_task(name, {}, find_tasks()) for name in config.tasks or MODEL.tasks}
    return make_plan(config, "m", MODEL, variants, tasks, commit="c0ffee")


def record_of(cell: Cell, **more: object) -> Record:
    base = Record(key=cell.key, status="done", labels=cell.labels(), metrics=[], spec=cell.spec())
    return replace(base, **more)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "results", create=True)


@pytest.fixture
def cell() -> Cell:
    return plan().cells[0]


# Keys


def test_plan_is_the_whole_grid_without_repeats() -> None:
    cells = plan().cells
    assert len(cells) == 2 * 2 * 2 * 2  # sites, variants, k, seeds; the core task has one view
    assert len({cell.key for cell in cells}) == len(cells)
    assert {sae.width for sae in plan(width=(64, 128)).saes} == {64, 128}


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"learning_rate": 1e-4}},
        {"training": {"seed": 1}},
        {"evaluation": {"seed": 1}},
        {"evaluation": {"limit": 3}},
        {"evaluation": {"batch_size": 8}},
        {"context": 64},
        {"dtype": "bfloat16"},
        {"width": 256},
        {"data": {"source": "tinyworld", "dataset": None, "column": "other"}},
    ],
)
def test_everything_that_can_change_a_number_changes_every_key(change: dict[str, object]) -> None:
    before, after = plan(), plan(**change)
    assert {c.key for c in before.cells}.isdisjoint(c.key for c in after.cells)


def test_evaluation_does_not_change_the_key_of_the_sae() -> None:
    assert [s.key for s in plan().saes] == [s.key for s in plan(evaluation={"seed": 5}).saes]


def test_name_and_description_change_no_key() -> None:
    assert [c.key for c in plan().cells] == [c.key for c in plan(name="other", description="x").cells]


def test_another_commit_of_the_model_changes_every_key() -> None:
    one = plan()
    other = make_plan(
        one.config,
        "m",
        MODEL,
        {n: get_variant(n, {}) for n in one.config.variants},
        {"core": one.cells[0].task},
        commit="other",
    )
    assert {c.key for c in one.cells}.isdisjoint(c.key for c in other.cells)


def test_options_and_version_of_a_task_change_its_key(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_tasks()
    changed = Cell(
        cell.sae, Scoring(get_task("core", {"outlier_norm": None}, found), "native", EvaluationSpec())
    )
    plain = Cell(cell.sae, Scoring(get_task("core", {}, found), "native", EvaluationSpec()))
    assert plain.key == cell.key != changed.key
    monkeypatch.setattr(type(cell.task), "version", "99")
    assert Cell(cell.sae, Scoring(cell.task, "native", EvaluationSpec())).key != plain.key


def test_k_not_below_the_width_is_refused() -> None:
    with pytest.raises(UserError, match="k = 8 must be smaller than the width"):
        plan(width=8)


def test_layer_out_of_range_is_refused() -> None:
    with pytest.raises(UserError, match="layer 4 is out of range: M has blocks 0 to 3"):
        plan(layers=(4,))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_keys_do_not_depend_on_order_and_survive_json(spec: dict[str, object]) -> None:
    backwards = dict(reversed(list(spec.items())))
    assert key_of(spec) == key_of(backwards) == key_of(json.loads(canonical_json(spec)))


def test_a_cell_s_key_is_that_of_its_whole_spec() -> None:
    for cell in plan().cells:
        assert cell.key == key_of(cell.spec())
        assert cell.sae.key == key_of(cell.sae.spec())


def test_the_key_of_an_sae_is_that_of_its_whole_spec_whatever_its_text() -> None:
    job = plan().saes[0]
    file = DataSpec(source="file", dataset="texts.jsonl")
    others = [
        replace(job, data=data, text=text) for data in (job.data, file) for text in (None, "c0ffee", "decaf")
    ]
    assert [other.key for other in others] == [key_of(other.spec()) for other in others]
    assert len({other.key for other in others}) == len(others)


def test_nan_has_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of({"x": float("nan")})


def test_difference_names_the_paths() -> None:
    assert difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [
        ("a.c", 2, 3),
        ("d", None, 4),
    ]


# Cells


def test_what_is_put_is_what_is_got(store: Store, cell: Cell) -> None:
    record = record_of(cell, scores={"nmse": 0.1 + 0.2}, provenance={"seconds": 1.5})
    store.put(cell, record)
    assert store.get(cell) == record
    assert store.get(plan().cells[1]) is None
    assert [r for _, r in store.all_records()] == [record]


def test_a_brief_record_lacks_spec_and_traceback_alone(store: Store, cell: Cell) -> None:
    record = record_of(cell, spec=cell.spec(), traceback="Traceback", details={"spec": {"metrics": [1]}})
    store.put(cell, record)
    brief = store.get_brief(cell)
    assert brief == replace(record, spec={}, traceback=None)
    again = store.get_brief(cell)
    assert brief is not None and again is not None and again.metrics is brief.metrics
    file = cell_file(store, cell)
    file.write_bytes(file.read_bytes().replace(b"Traceback", b"Trackback"))
    assert store.get_brief(cell) is None
    assert len(store.damaged) == 1


def test_file_is_found_by_key_and_by_path(store: Store, cell: Cell) -> None:
    store.put(cell, record_of(cell))
    file = cell_file(store, cell)
    for name in (cell.key, cell.key[:6], str(file), file.name):
        (found,) = find_cells(store, name)
        assert (str(found), found.record()) == (str(file), store.get(cell))
    assert find_cells(store, "0" * 12) == []


def test_a_file_cut_at_any_place_is_missing_and_said(store: Store, cell: Cell) -> None:
    store.put(cell, record_of(cell, scores={"nmse": 0.5}))
    file = cell_file(store, cell)
    whole = file.read_bytes()
    for length in range(0, len(whole) - 2, 97):
        file.write_bytes(whole[:length])
        assert store.get(cell) is None
        assert "is damaged" in store.damaged.pop()


def test_a_file_of_another_key_is_not_taken(store: Store, cell: Cell) -> None:
    other = plan().cells[1]
    store.put(cell, record_of(cell))
    cell_file(store, other).parent.mkdir(parents=True, exist_ok=True)
    cell_file(store, other).write_bytes(cell_file(store, cell).read_bytes())
    assert store.get(other) is None
    assert "another key" in store.damaged[0]


def test_scores_that_are_not_finite_cannot_be_written(store: Store, cell: Cell) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put(cell, record_of(cell, scores={"nmse": float("nan")}))
    assert store.get(cell) is None
    files = {file.name for file in root_of(store).rglob("*") if file.is_file()}
    assert files <= {"abench.json", "lock"}


# SAEs


def test_an_sae_is_whole_only_with_its_record_and_unchanged_files(store: Store, cell: Cell) -> None:
    from abench.storage.files import file_hash

    job = cell.sae
    draft = store.draft_folder(job)
    (draft / "weights").write_bytes(b"w" * 100)
    record = SAERecord(
        job.key, "done", job.labels(), job.spec(), files={"weights": file_hash(draft / "weights")}
    )
    assert store.get_sae(job) is None
    store.put_sae(job, record, draft)
    assert store.get_sae(job) == record
    (sae_folder(store, job) / "weights").write_bytes(b"w" * 99)
    assert store.get_sae(job) is None
    assert "is trained again" in store.damaged[0]


def test_a_draft_that_a_crash_left_is_cleared(store: Store, cell: Cell) -> None:
    (store.draft_folder(cell.sae) / "half").write_text("x")
    assert list(store.draft_folder(cell.sae).iterdir()) == []


# The folder


def test_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    write_sealed(tmp_path / "abench.json", {"format": 999})
    with pytest.raises(UserError, match="another version of abench"):
        Store.open(tmp_path, create=True)


@pytest.mark.parametrize("create", [True, False])
def test_folder_without_checksums_is_refused_and_left_alone(tmp_path: Path, create: bool) -> None:
    (tmp_path / "abench.json").write_text('{"schema": 1}\n')
    with pytest.raises(UserError, match="an earlier version of abench, without checksums"):
        Store.open(tmp_path, create=create)
    assert (tmp_path / "abench.json").read_text() == '{"schema": 1}\n'


def test_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a results folder"):
        Store.open(tmp_path, create=False)


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Store.open(tmp_path / "file" / "results", create=True)
