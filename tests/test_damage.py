"""Damage to any file of a results folder: named, and the next run ends with the same numbers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from damage import DAMAGES
from listening import Told
from small_run import data_of, small_plan, weights_of
from store_files import cell_file, sae_folder

from abench import Metric, Task
from abench.results.jobs import Cell, Scoring
from abench.results.store import Store
from abench.runs.plan import Plan
from abench.runs.runner import run_plan
from abench.storage.sealed import read_sealed, write_sealed

SAE_FILES = ("cfg.json", "sae.json", "sae_weights.safetensors", "train.csv")


class Asks(Task):
    """Scores what a judge answered once, as the judges' tasks do."""

    name: ClassVar[str] = "asks"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("yes", True, headline=True),)

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Any) -> dict[str, float]:
        spec = {"question": "is it?", "norm": round(float(sae.W_enc.norm()), 3)}
        if ctx.kept.get(spec) is None:
            ctx.kept.put(spec, {"answer": "no"})
        return {"yes": float(ctx.kept.get(spec)["answer"] == "yes")}


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Four SAEs, so that each can have another of its files damaged in one run."""
    whole = small_plan(variants=("abstopk", "jumprelu"), seeds=(0, 1))
    (group,) = whole.groups
    asked = tuple(Cell(sae, Scoring(Asks(), "native", whole.config.evaluation)) for sae in group.saes)
    return Plan(
        whole.config, whole.model, whole.data, (type(group)(group.site, group.saes, group.cells + asked),)
    )


@pytest.fixture(scope="module")
def undisturbed(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, bytes]]:
    """A finished results folder, its data.csv and its weights."""
    root = tmp_path_factory.mktemp("undisturbed") / "results"
    store = Store.open(root, create=True)
    run_plan(plan, store)
    return root, data_of(plan, store), weights_of(plan, store)


@pytest.fixture(scope="module")
def interrupted(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two checkpoints of every SAE, after steps 2 and 1."""
    root = tmp_path_factory.mktemp("interrupted") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("abench.runs.group_training.CHECKPOINT_SHARE", float("inf"))  # one after every step
        with pytest.raises(KeyboardInterrupt):
            run_plan(plan, Store.open(root, create=True), progress=Told(at=3), checkpoint_seconds=0.0)
    return root


def copy_of(root: Path, tmp_path: Path) -> Path:
    copied: Path = shutil.copytree(root, tmp_path / "results")
    return copied


def run_again(root: Path, plan: Plan) -> tuple[str, dict[str, bytes], list[str]]:
    """data.csv and weights after one more run, and what it said."""
    progress = Told()
    store = Store.open(root, create=True)
    run_plan(plan, store, progress=progress)
    return data_of(plan, store), weights_of(plan, store), progress.said


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.slow
def test_a_finished_folder_is_mended(
    kind: str, plan: Plan, undisturbed: tuple[Path, str, dict[str, bytes]], tmp_path: Path
) -> None:
    whole, data, weights = undisturbed
    root = copy_of(whole, tmp_path)
    store = Store.open(root, create=False)
    # Each SAE has another of its files damaged; so are all cells with answers and half of the others.
    victims = [sae_folder(store, sae) / name for sae, name in zip(plan.saes, SAE_FILES, strict=True)]
    victims += [cell_file(store, cell) for cell in plan.cells[2:]]
    victims += [*root.glob("kept/*/*.json"), root / "abench.json"]
    for file in victims:
        DAMAGES[kind](file)
    before = Store.open(root, create=False) if kind != "gone" else store
    standings = {cell: before.standing(cell) for cell in plan.cells}
    assert set(standings.values()) == {"done", "missing" if kind == "gone" else "damaged"}
    assert [before.sae_standing(sae) for sae in plan.saes] == ["damaged"] * 4
    found, found_weights, said = run_again(root, plan)
    assert found == data
    assert found_weights == weights
    again = Store.open(root, create=False)
    assert {again.standing(cell) for cell in plan.cells} == {"done"}
    assert {again.sae_standing(sae) for sae in plan.saes} == {"done"}
    assert again.damaged == []
    named = [file for file in victims if any(str(file) in sentence for sentence in said + before.damaged)]
    # Where a cell or an answer is gone nothing tells that it was there.
    assert named == (victims[:4] if kind == "gone" else victims)
    assert len(said) == len(set(said))


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.slow
def test_training_goes_on_from_the_last_whole_state(
    kind: str,
    plan: Plan,
    undisturbed: tuple[Path, str, dict[str, bytes]],
    interrupted: Path,
    tmp_path: Path,
) -> None:
    root = copy_of(interrupted, tmp_path)
    keys = [sae.key for sae in plan.saes]
    newest = [root / "checkpoints" / key for key in keys]
    before = [root / "checkpoints" / f".{key}.before" for key in keys]
    # Of the first two SAEs the newest checkpoint, of the others that before it as well.
    victims = [folder / "state.json" for folder in (newest[0], newest[2], before[2])]
    victims += [folder / "state.safetensors" for folder in (newest[1], newest[3], before[3])]
    for file in victims:
        DAMAGES[kind](file)
    data, weights, said = run_again(root, plan)
    assert (data, weights) == (undisturbed[1], undisturbed[2])
    assert [sum(str(folder) in each for each in said) for folder in (*newest, *before)] == [1] * 4 + [
        0,
        0,
        1,
        1,
    ]
    assert list((root / "checkpoints").iterdir()) == []


def _rewrite(change: Callable[[Any], Any], *, sealed: bool) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        file = folder / "state.json"
        content = change(read_sealed(file))
        if sealed:
            write_sealed(file, content)
        else:
            file.write_text(json.dumps(content))

    return rewrite


def _replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


UNUSABLE = {
    "null": _rewrite(lambda _: None, sealed=False),
    "an empty mapping": _rewrite(lambda _: {}, sealed=False),
    "a later step": _rewrite(lambda state: state | {"step": state["step"] + 5}, sealed=False),
    "a file": _replace_by_file,
    # What another version of abench may have written, under a checksum that is right.
    "no keys but the step": _rewrite(lambda _: {"step": 1}, sealed=True),
    "another controller": _rewrite(lambda state: state | {"controller": {"other": 1.0}}, sealed=True),
    "another stream": _rewrite(lambda state: state | {"stream": {"position": [0]}}, sealed=True),
    "no list of files": _rewrite(lambda state: state | {"files": {}}, sealed=True),
}


@pytest.mark.parametrize("kinds", [[*UNUSABLE][:4], [*UNUSABLE][4:]], ids=["damaged", "of another version"])
@pytest.mark.slow
def test_no_checkpoint_keeps_a_run_from_going_on(
    kinds: list[str],
    plan: Plan,
    undisturbed: tuple[Path, str, dict[str, bytes]],
    interrupted: Path,
    tmp_path: Path,
) -> None:
    root = copy_of(interrupted, tmp_path)
    folders = [root / "checkpoints" / sae.key for sae in plan.saes]
    for kind, folder in zip(kinds, folders, strict=True):
        UNUSABLE[kind](folder)
    _, weights, said = run_again(root, plan)
    assert weights == undisturbed[2]
    assert all(any(str(folder) in each for each in said) for folder in folders)


def test_a_checkpoint_of_another_sae_is_not_taken(
    plan: Plan, undisturbed: tuple[Path, str, dict[str, bytes]], interrupted: Path, tmp_path: Path
) -> None:
    root = copy_of(interrupted, tmp_path)
    first, other = (root / "checkpoints" / plan.saes[index].key for index in (0, 2))
    shutil.rmtree(first)
    shutil.copytree(other, first)
    _, weights, said = run_again(root, plan)
    assert weights == undisturbed[2]
    assert any("not those of this SAE" in each for each in said)
