"""Several settings of one variant or training in one run: which lists are sweeps, labels, columns, places."""

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command import SMALL, Abench
from hypothesis import given
from hypothesis import strategies as st
from own_variants import ridge

from abench.config import TrainingSpec, load_run
from abench.config.sweeps import settings
from abench.errors import OptionError, UserError
from abench.report import read_tidy, variant_style
from abench.report.style import row_title, titled, variant_order
from abench.runs.planner import RunRequest, plan_run
from abench.settings import settings_of, settings_text, variant_name, with_settings
from abench.variants import JumpReLU, Matryoshka

__all__ = ["ridge"]  # a fixture

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.from_regex(r"[a-z_]+(\.[a-z_]+)?", fullmatch=True), VALUES, max_size=4))
def test_settings_can_be_read_from_labels_again(given_: dict[str, Any]) -> None:
    label = with_settings("topk", given_)
    read = settings_of(label)
    assert variant_name(label) == "topk" and list(read) == list(given_)
    for key, value in given_.items():
        as_json = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        assert read[key] == as_json or (isinstance(value, str) and read[key] == value)
    both = with_settings(with_settings("topk", {"a": "x,y=]"}), given_)
    assert settings_of(both) == {"a": '"x,y=]"'} | read


def test_a_label_without_settings_is_the_name() -> None:
    assert with_settings("topk", {}) == "topk" and settings_of("topk") == {} and settings_text("topk") == ""


@pytest.mark.parametrize(
    ("spec", "values", "several"),
    [
        (JumpReLU, {"bandwidth": [0.5, 1]}, [{"bandwidth": 0.5}, {"bandwidth": 1}]),
        (JumpReLU, {"bandwidth": [0.5]}, [{}]),
        (JumpReLU, {"coefficient": [None, 1]}, [{"coefficient": None}, {"coefficient": 1}]),
        (JumpReLU, {"loss": ["step", "tanh"]}, [{"loss": "step"}, {"loss": "tanh"}]),
        (Matryoshka, {"prefixes": [0.25, 0.5]}, [{}]),
        (Matryoshka, {"prefixes": [[0.25], [0.5]]}, [{"prefixes": [0.25]}, {"prefixes": [0.5]}]),
        (TrainingSpec, {"betas": [0.9, 0.99]}, [{}]),
        (TrainingSpec, {"betas": [[0.9, 0.99], [0.8, 0.9]]}, [{"betas": [0.9, 0.99]}, {"betas": [0.8, 0.9]}]),
        (TrainingSpec, {"no_such_key": [1, 2]}, [{}]),
    ],
)
def test_a_list_is_a_sweep_only_where_the_option_takes_no_list(
    spec: Any, values: dict[str, Any], several: list[dict[str, Any]]
) -> None:
    found = settings(spec, values)
    assert [differing for differing, _ in found] == several
    if len(found) == 1 and "prefixes" in values:
        assert found[0][1] == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bandwidth": []}, "at least one value is needed"),
        ({"bandwidth": [1, 0.5, 1]}, "given more than once: 1"),
        ({"bandwidth": list(range(200)), "initial_threshold": list(range(200))}, "40,000 combinations"),
    ],
)
def test_mistakes_in_sweeps_are_explained(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        settings(JumpReLU, values)


MISTAKES = [
    ("training.learning_rate=[0.1,-1]", "--set training.learning_rate must be above 0 (got -1)"),
    ("training.learning_rate=[]", "--set training.learning_rate: at least one value is needed"),
    ("variant_options.topk.aux_loss_coefficient=[1,-1]", "aux_loss_coefficient' of variant 'topk' must be"),
    ("variant_options.topk.aux_loss_coefficient=[1,1]", "given more than once: 1"),
    ("variant_options.topk.aux_los=[1,2]", "has no option 'aux_los'"),
]


@pytest.mark.parametrize(("assignment", "message"), MISTAKES, ids=[each for each, _ in MISTAKES])
def test_mistakes_name_their_place(abench: Abench, assignment: str, message: str) -> None:
    result = abench("run", "--variants", "topk", "--dry-run", "--set", assignment)
    assert result.code == 2 and message in result.err and "Traceback" not in result.err


def test_one_configuration_cannot_hold_several_trainings() -> None:
    with pytest.raises(UserError, match="training has several values of learning_rate"):
        load_run(None, {}, ["training.learning_rate=[0.1,1]"])


def test_all_combinations_have_labels_and_keys_of_their_own_and_one_place_each() -> None:
    request = RunRequest(
        options={"variants": ("jumprelu", "topk"), "k": (4,)},
        assignments=("variant_options.jumprelu.bandwidth=[0.5,1]", "training.learning_rate=[1e-3,3e-3]"),
    )
    plan = plan_run(request, fetch=False, say=print)
    rates = ("learning_rate=0.001", "learning_rate=0.003")
    assert [sae.labels()["variant"] for sae in plan.saes] == [
        *(f"jumprelu[bandwidth={width},{rate}]" for width in (0.5, 1) for rate in rates),
        *(f"topk[{rate}]" for rate in rates),
    ]
    assert len({sae.key for sae in plan.saes}) == len({sae.label for sae in plan.saes}) == 6
    single = RunRequest(
        options={"variants": ("topk",), "k": (4,)}, assignments=("training.learning_rate=3e-3",)
    )
    (alone,) = plan_run(single, fetch=False, say=print).saes
    assert alone.key == plan.saes[-1].key and alone.labels()["variant"] == "topk"


def test_an_option_that_has_the_name_of_a_training_key_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from typing import ClassVar\nfrom abench.variants import AbsTopK\n\n\n"
        'class Mine(AbsTopK):\n    name: ClassVar[str] = "mine"\n    learning_rate: float = 1.0\n'
    )
    both = ("training.learning_rate=[1e-3,3e-3]", "variant_options.mine.learning_rate=[1,2]")
    request = RunRequest(options={"variants": ("mine",), "k": (4,)}, assignments=both, plugins=(tmp_path,))
    labels = [sae.labels()["variant"] for sae in plan_run(request, fetch=False, say=print).saes]
    assert labels[0] == "mine[learning_rate=1,training.learning_rate=0.001]" and len(set(labels)) == 4


def test_settings_stand_side_by_side_and_use_each_others_results(
    abench: Abench, tmp_path: Path, ridge: Path
) -> None:
    common = ("--plugins", ridge, "--k", "4", *SMALL, "--tokens", "10240", "--results", tmp_path)
    several = ("--set", "variant_options.ridgetopk.ridge=[1,0.1]")
    run = abench("run", "--variants", "ridgetopk,topk", *several, *common)
    assert run.code == 0, run.err
    assert ["k", "SAE", "settings", "seeds"] in [line.split()[:4] for line in run.out.splitlines()]
    rows = [line.split()[:4] for line in run.out.splitlines() if "Ridge TopK" in line]
    assert rows[:2] == [["4", "Ridge", "TopK", "ridge=0.1"], ["4", "Ridge", "TopK", "ridge=1"]]
    report = tmp_path / "reports" / "default"
    frame = read_tidy(report / "data.csv")
    assert dict(zip(frame["variant"], frame["setting.ridge"], strict=True)) == {
        "ridgetopk[ridge=0.1]": "0.1",
        "ridgetopk[ridge=1]": "1",
        "topk": "",
    }
    assert pd.read_csv(report / "data.csv")["setting.ridge"].dropna().unique().tolist() == [0.1, 1.0]
    assert "|  settings |" in (report / "table.md").read_text(encoding="utf-8")
    assert "settings</th>" in (report / "index.html").read_text(encoding="utf-8")
    with (report / "table.csv").open(encoding="utf-8") as stream:
        assert "ridgetopk[ridge=0.1]" in {row["variant"] for row in csv.DictReader(stream)}
    folders = [path.name for path in (tmp_path / "saes").glob("*/*/*")]
    assert sorted(name.rpartition("-")[0] for name in folders) == [
        *["ridgetopk_k4_w200_s0"] * 2,
        "topk_k4_w200_s0",
    ]
    one = ("--set", "variant_options.ridgetopk.ridge=0.1", "--name", "one")
    again = abench("run", "--variants", "ridgetopk", *one, *common)
    assert again.code == 0 and "0 cells computed, 1 from the results folder" in again.out
    assert "  settings  " not in again.out
    key = frame.loc[frame["variant"] == "ridgetopk[ridge=0.1]", "key"].iloc[0]
    shown = abench("show", key, "--results", tmp_path)
    assert shown.code == 0 and Path(shown.out.split("SAE  ")[1].strip()).is_dir()


def test_options_of_the_batches_can_differ_too(abench: Abench, tmp_path: Path) -> None:
    common = ("--variants", "topk", "--k", "4", *SMALL, "--tokens", "10240", "--results", tmp_path)
    run = abench("run", *common, "--set", "training.batch_size=[256,512]")
    assert run.code == 0, run.err
    alone = abench("run", *common, "--name", "alone")
    assert "0 cells computed, 1 from the results folder" in alone.out
    curves = {file.parent.name: pd.read_csv(file) for file in tmp_path.glob("saes/*/*/*/train.csv")}
    assert sorted(int(curve["step"].max()) for curve in curves.values()) == [20, 40]


def test_own_variants_have_their_title_also_with_settings_and_never_the_look_of_abenchs_own() -> None:
    styles = titled({"mine": "My own", "top-k": "Other TopK", "topk": "ignored"})
    assert variant_style("mine", styles).title == "My own"
    assert variant_style("mine[x=1]", styles).title == "My own [x=1]"
    assert row_title("mine[x=1]", styles) == "My own"
    assert variant_style("top-k", styles).title == "Other TopK"
    assert variant_style("top-k", styles).colour != variant_style("topk", styles).colour
    assert variant_style("topk", styles).title == "TopK"


def test_settings_have_colours_of_their_own_and_the_order_of_their_values() -> None:
    first, second = (variant_style(f"topk[x={value}]") for value in (2, 10))
    assert first.title == "TopK [x=2]" and first.marker == second.marker == variant_style("topk").marker
    assert len({first.colour, second.colour, variant_style("topk").colour}) == 3
    labels = ["topk[x=10]", "topk[x=2]", "topk", "abstopk", "mine"]
    assert variant_order(labels) == ["abstopk", "topk", "topk[x=2]", "topk[x=10]", "mine"]
