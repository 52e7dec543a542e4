"""SAEs that exist already: scored without training, from the command line and from Python."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from command import Abench
from safetensors.torch import load_file, save_file
from small_run import small_plan
from store_files import sae_folder

import abench as library
from abench import SAE, UserError
from abench.report import read_tidy
from abench.results.store import Store
from abench.runs.runner import run_plan
from abench.variants import load_sae

SITE = "blocks.2.hook_resid_post"
SMALL = {"context": 32, "evaluation": {"tokens": 256, "limit": 4}}
OPTIONS = ("--set", "context=32", "--set", "evaluation.tokens=256", "--limit", "4")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path], pd.DataFrame]:
    """A results folder, its SAEs' folders by variant, and their scores."""
    root = tmp_path_factory.mktemp("given")
    plan, store = small_plan(), Store.open(root / "results", create=True)
    assert run_plan(plan, store).computed == len(plan.cells) == 3
    folders = {}
    for sae in plan.saes:
        # As sae-lens saves an SAE: without abench's record.
        folders[str(sae.labels()["variant"])] = folder = root / f"my-{sae.labels()['variant']}"
        shutil.copytree(sae_folder(store, sae), folder, ignore=shutil.ignore_patterns("sae.json", "*.csv"))
    return root / "results", folders, library.load_results(root / "results")


class TenLines:
    """An SAE as anyone would write it: nothing but what is needed."""

    def __init__(self, sae: SAE) -> None:
        self._sae, self.W_dec = sae, sae.W_dec

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self._sae.encode(x)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return self._sae.decode(codes)


def values_of(frame: pd.DataFrame, name: str) -> dict[tuple[str, str], float]:
    own = frame[frame["variant"] == name]
    return {(row.metric, row.view): row.value for row in own.itertuples()}


def test_folders_get_the_scores_that_their_sae_had_when_it_was_trained(
    abench: Abench, trained: Any, tmp_path: Path
) -> None:
    _, folders, scores = trained
    names = ",".join(str(folder) for folder in folders.values())
    result = abench("run", "--sae", names, "--model", "tiny", *OPTIONS, "--results", tmp_path / "r")
    assert result.code == 0, result.err
    assert "3 SAEs at 1 site; 3 cells to score" in result.err
    found = read_tidy(tmp_path / "r/reports/default/data.csv")
    assert set(found["variant"]) == {"my-abstopk", "my-topk", "my-jumprelu"}
    assert set(found["seed"].isna()) == {True}
    for variant in folders:
        assert values_of(found, f"my-{variant}") == pytest.approx(values_of(scores, variant), rel=1e-6)


def test_the_key_is_of_the_weights_and_not_of_the_place_or_the_name(
    abench: Abench, trained: Any, tmp_path: Path
) -> None:
    _, folders, _ = trained
    moved = tmp_path / "renamed"
    shutil.copytree(folders["topk"], moved)
    for folder, computed in ((folders["topk"], 1), (moved, 0)):
        result = abench("run", "--sae", folder, *OPTIONS, "--results", tmp_path / "r")
        assert result.code == 0, result.err
        assert f"{computed} cell{'' if computed == 1 else 's'} computed" in result.out
    assert "renamed" in result.out  # shown under the name that it has now
    weights = load_file(moved / "sae_weights.safetensors")
    weights["b_dec"][0] += 1e-3
    save_file(weights, moved / "sae_weights.safetensors")
    result = abench("run", "--sae", moved, *OPTIONS, "--results", tmp_path / "r")
    assert "1 cell computed" in result.out


def test_given_and_trained_saes_stand_side_by_side(abench: Abench, trained: Any, tmp_path: Path) -> None:
    results, folders, _ = trained
    shutil.copytree(results, tmp_path / "r")
    given = ("--sae", folders["abstopk"], "--variants", "topk", "--k", "4", "--width", "64", *OPTIONS)
    small = ("training.tokens=2048", "training.batch_size=512", "training.buffer_tokens=1024")
    training = [word for each in small for word in ("--set", each)]
    result = abench("run", *given, *training, "--model", "tiny", "--results", tmp_path / "r")
    assert result.code == 0, result.err
    assert "2 SAEs at 1 site, 1 of them to train, 2,048 tokens each" in result.err
    assert "1 cell computed, 1 from the results folder" in result.out
    status = abench("status", *given, *training, "--model", "tiny", "--results", tmp_path / "r")
    assert status.code == 0 and "2 done" in status.out and "None" not in status.out


def test_one_that_cannot_be_used_does_not_stop_the_others(
    abench: Abench, trained: Any, tmp_path: Path
) -> None:
    _, folders, _ = trained
    broken = tmp_path / "broken"
    shutil.copytree(folders["topk"], broken)
    weights = load_file(broken / "sae_weights.safetensors")
    weights["W_enc"][0, 0] = float("nan")
    save_file(weights, broken / "sae_weights.safetensors")
    (tmp_path / "empty").mkdir()
    names = f"{tmp_path / 'empty'},{broken},{folders['topk']}"
    result = abench("run", "--sae", names, *OPTIONS, "--results", tmp_path / "r")
    assert result.code == 3
    assert f"failed: {tmp_path / 'empty'}: " in result.err and f"failed: {broken}: " in result.err
    assert "Traceback" not in result.err and "1 cell computed" in result.out
    result = abench("run", "--sae", tmp_path / "empty", *OPTIONS, "--results", tmp_path / "r")
    assert result.code == 2 and "known format" in result.err


def change_config(folder: Path, **values: object) -> None:
    file = folder / "cfg.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["metadata"] |= {key: value for key, value in values.items() if key in config["metadata"]}
    file.write_text(json.dumps(config | {k: v for k, v in values.items() if k in config}), encoding="utf-8")


def test_site_and_model_are_those_that_the_files_state_unless_given(
    abench: Abench, trained: Any, tmp_path: Path
) -> None:
    _, folders, _ = trained
    other = tmp_path / "other"
    shutil.copytree(folders["topk"], other)
    change_config(other, hook_name="blocks.9.hook_resid_post")
    result = abench("run", "--sae", other, *OPTIONS, "--results", tmp_path / "r")
    assert result.code == 2 and "has blocks 0 to" in result.err
    result = abench(
        "run", "--sae", other, "--site", "blocks.1.hook_mlp_out", *OPTIONS, "--results", tmp_path / "r"
    )
    assert result.code == 0, result.err
    assert "tiny, blocks.1.hook_mlp_out" in result.out
    change_config(other, hook_name=None, model_name=None)
    result = abench("run", "--sae", other, *OPTIONS, "--results", tmp_path / "r")
    assert result.code == 2 and "give it with --model" in result.err
    result = abench("run", "--sae", other, "--model", "tiny", *OPTIONS, "--results", tmp_path / "r")
    assert result.code == 2 and "give it with --site" in result.err


def test_evaluate_gives_a_class_of_ten_lines_the_table_of_the_command_line(
    abench: Abench, trained: Any, tmp_path: Path
) -> None:
    _, folders, _ = trained
    run = abench("run", "--sae", folders["abstopk"], *OPTIONS, "--tasks", "core,sparse_probing",
                 "--results", tmp_path / "r")  # fmt: skip
    assert run.code == 0, run.err
    of_command = read_tidy(tmp_path / "r/reports/default/data.csv")
    mine = TenLines(load_sae(folders["abstopk"]))
    scored = library.evaluate(
        {"my-abstopk": mine}, model="tiny", site=SITE, tasks=["core", "sparse_probing"], **SMALL
    )
    assert not scored.failed
    assert values_of(scored.data(), "my-abstopk") == pytest.approx(
        values_of(of_command, "my-abstopk"), rel=1e-5
    )
    assert set(scored.data()["view"]) == {"native", "split"}  # signedness was found by looking
    assert scored.table()["sae"].tolist() == ["my-abstopk"] * 2
    page = scored.report(tmp_path / "report")
    assert page.is_file() and "my-abstopk" in page.read_text(encoding="utf-8")
    assert "\n" not in repr(scored)


def test_saes_that_score_alike_look_different_but_lie_on_one_point() -> None:
    from matplotlib.figure import Figure

    from abench.report.axes import set_scales
    from abench.report.curves import PANELS
    from abench.report.style import apart

    styles = apart([f"sae-{number}" for number in range(12)])
    assert len({style.colour for style in styles.values()}) == 12
    axes = Figure().subplots()
    points = pd.DataFrame({"x": [8.0, 8.0], "y": [0.5, 0.5 + 1e-9], "y_sd": [None, None], "k": [8, None]})
    axes.plot(points["x"], points["y"])
    set_scales(axes, points, PANELS[1])
    low, high = axes.get_ylim()
    assert high - low == pytest.approx(5e-4, rel=0.01)


def test_evaluate_takes_open_models_and_resumes_in_a_folder(trained: Any, tmp_path: Path) -> None:
    _, folders, _ = trained
    lm = library.LanguageModel.load("tiny")
    sae = load_sae(folders["topk"])
    calls = {"model": lm, "results": tmp_path / "r", **SMALL}
    first = library.evaluate({"a": sae, "b": str(folders["jumprelu"])}, **calls)
    again = library.evaluate({"a": sae}, **calls)
    assert (first.outcome.computed, again.outcome.computed) == (2, 0)
    # A pair has no name that abench knows, so its documents end as its tokenizer alone suggests.
    alike = library.LanguageModel(lm.model, lm.tokenizer, name="alike")
    pair, other = (
        library.evaluate(sae, model=each, data={"source": "tinyworld"}, **SMALL)
        for each in ((lm.model, lm.tokenizer), alike)
    )
    assert values_of(pair.data(), "TopKSAE") == values_of(other.data(), "TopKSAE")


class Broken(TenLines):
    """Encodes some tokens only."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 64:
            raise ValueError("too many tokens for me")
        return super().encode(x)


def test_evaluate_names_what_fails_and_scores_the_rest(trained: Any) -> None:
    _, folders, _ = trained
    sae = load_sae(folders["topk"])
    scored = library.evaluate(
        {"good": sae, "bad": Broken(sae), "none": object()}, model="tiny", site=SITE, **SMALL
    )
    assert set(scored.failed) == {"none", "bad core (native)"}
    assert "too many tokens for me" in scored.failed["bad core (native)"]
    assert "encode" in scored.failed["none"]
    assert scored.data().query("variant == 'good'")["value"].notna().all()
    with pytest.raises(UserError, match="encode"):
        library.evaluate(object(), model="tiny", site=SITE)


def test_a_wrong_activation_function_is_found(abench: Abench, trained: Any, tmp_path: Path) -> None:
    _, folders, _ = trained
    other = tmp_path / "other"
    shutil.copytree(folders["abstopk"], other)
    change_config(other, k=60)
    result = abench("run", "--sae", other, *OPTIONS, "--results", tmp_path / "r")
    assert result.code == 0, result.err
    record = next((tmp_path / "r/saes").glob("*/*/*/sae.json")).read_text(encoding="utf-8")
    assert "findings" in record


def test_run_and_plan_do_what_the_command_does(trained: Any) -> None:
    results, _, scores = trained
    same = {
        "width": 64,
        "k": [4],
        **SMALL,
        "training": {"tokens": 2048, "batch_size": 512, "buffer_tokens": 1024},
    }
    assert [cell.key for cell in library.plan(**same).cells] == sorted(
        set(scores["key"]), key=[cell.key for cell in library.plan(**same).cells].index
    )
    scored = library.run(results=results, **same)
    assert scored.outcome.computed == 0
    assert values_of(scored.data(), "topk") == values_of(scores, "topk")


def test_load_results_has_hyperparameters_in_columns(trained: Any) -> None:
    _, _, scores = trained
    assert set(scores["training.tokens"]) == {2048}
    assert set(scores["variant.bandwidth"].dropna()) == {0.001} or "variant.bandwidth" in scores
    assert set(scores["evaluation.limit"]) == {4}
    with pytest.raises(UserError, match="nowhere"):
        library.load_results("nowhere")


def test_a_latent_of_a_given_sae_is_shown_as_long_as_it_is_where_it_was(
    abench: Abench, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folders, _ = trained
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders["abstopk"], "mine")
    assert abench("run", "--sae", "mine", *OPTIONS, "--results", "r").code == 0
    (record,) = Path("r/saes").glob("*/*/*")
    monkeypatch.chdir("/")
    key = record.name.rpartition("-")[2]
    shown = abench("show", key, "--latent", "3", "--tokens", "2000", "--results", tmp_path / "r")
    assert shown.code == 0, shown.err
    assert "Latent 3 of tiny blocks.2.hook_resid_post · mine k=4 width=64\n" in shown.out
    shutil.rmtree(tmp_path / "mine")
    shown = abench("show", key, "--latent", "3", "--results", tmp_path / "r")
    assert shown.code == 2 and "mine" in shown.err and "Traceback" not in shown.err
