"""SCR and TPP against sae-bench's own functions: the same activations, texts, negatives and probes.

The texts fill the context and BOS is left out, so that sae-bench has no padding to ablate by mistake, and
its negatives are drawn once for all (probe_oracle.drawn). Both defects have tests of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pytest
import torch
from abench.tasks._shared.ablation import NUMBERS, probed
from abench.tasks._shared.labelled import labelled, quadrants
from abench.tasks._shared.linear_probes import ProbeSettings
from abench.tasks.scr import SCR, CorrelatedPair, correlated, scr_effects
from abench.tasks.tpp import TPP, ProbedClasses, one_against_others, tpp_effects
from imported_saes import Imported, imported
from probe_oracle import (
    Activations,
    activations,
    create_meaned_model_activations,
    drawn,
    matrix,
    probe_training,
    questions_of,
    results,
    scr_and_tpp,
    trained_probes,
)
from signed import random_sae

from abench import Context, LanguageModel, TokenRows, ordinary, train
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import MODEL_DIR

SITE = "blocks.2.hook_resid_post"
DATA = DataSpec(source="tinyworld", dataset=None)
TOKENS = 10
SETTINGS = ProbeSettings(probe_epochs=1, context=TOKENS + 1)
TRAIN, TEST = 160, 80


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@pytest.fixture(scope="module")
def objects(lm: LanguageModel) -> dict[str, Any]:
    rows = TokenRows(lm, DATA, "train", 48)
    batches = (lm.residual(t, SITE)[ordinary(t, lm)].clone() for t in (rows.batch(16) for _ in range(60)))
    names = ["topk", "relu", "jumprelu"]
    trained = train(batches, variants=names, k=[8], width=640, steps=60, batch_size=512)
    return {each.variant: each.sae for each in trained} | {"random": random_sae("topk", width=640)}


@pytest.fixture(scope="module")
def folders(objects: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Imported]:
    """SAEs that were saved as sae-lens folders, and what sae-lens and abench read from them.

    None of them normalises its input: sae-bench decodes such an SAE twice after encoding once, which sae-lens
    refuses with an error.
    """
    root = tmp_path_factory.mktemp("saelens")
    return {
        "topk from a folder": imported(objects["topk"], root / "topk"),
        "jumprelu from a folder": imported(objects["jumprelu"], root / "jumprelu"),
    }


@pytest.fixture(scope="module")
def saes(objects: dict[str, Any], folders: dict[str, Imported]) -> dict[str, Any]:
    """All SAEs as abench scores them."""
    return objects | {name: each.ours for name, each in folders.items()}


OBJECTS = ["topk", "relu", "jumprelu", "random"]
FOLDERS = ["topk from a folder", "jumprelu from a folder"]


@pytest.fixture
def of_both(name: str, saes: dict[str, Any], folders: dict[str, Imported]) -> Imported:
    """The SAE that sae-bench scores and the one that abench scores."""
    return folders.get(name, Imported(saes[name], saes[name]))


@pytest.fixture(autouse=True)
def the_same_negatives_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_training, "prepare_probe_data", drawn)


@dataclass
class Case:
    """What sae-bench and abench are both given."""

    train: Activations
    test: Activations
    probes: dict[str, Any]
    prepared: Any


def context_of(saes: Mapping[str, Any]) -> Context:
    return Context(SITE, EvaluationSpec(), DATA, 128, saes=tuple(saes.values()))


def all_activations(lm: LanguageModel, texts: Mapping[str, Sequence[str]]) -> Activations:
    acts = {c: activations(lm, each, SITE, context=TOKENS + 1)[:, 1:] for c, each in texts.items()}
    assert all(bool((x.abs().sum(-1) > 0).all()) for x in acts.values())
    return acts


@pytest.fixture(scope="module")
def tpp_case(lm: LanguageModel, saes: dict[str, Any]) -> Case:
    data = labelled("tinyworld/reviews", context_of(saes), train=TRAIN, test=TEST)
    halves = [all_activations(lm, half) for half in (data.train, data.test)]
    probes = trained_probes(*halves, scr=False, epochs=3)
    asked = [questions_of({c: len(x) for c, x in half.items()}, list(half), scr=False) for half in halves]
    texts = [list(chain(*half.values())) for half in (data.train, data.test)]
    with torch.no_grad():
        ours = probed(
            lm, context_of(saes), (texts[0], asked[0]), (texts[1], asked[1]), SETTINGS, range(len(probes))
        )
    prepared = ProbedClasses(tuple(data.train), replace(ours, probes=matrix(probes)))
    return Case(*halves, probes, {"reviews": prepared})


def sae_benchs_six(corners: Any, each: int) -> dict[str, list[str]]:
    """The groups of texts of sae-bench's get_spurious_corr_data."""
    some = {corner: list(texts[:each]) for corner, texts in corners.items()}
    return {
        "male / female": some[0, 0] + some[1, 0],
        "female_data_only": some[0, 1] + some[1, 1],
        "professor / nurse": some[0, 0] + some[0, 1],
        "nurse_data_only": some[1, 0] + some[1, 1],
        "male_professor / female_nurse": list(corners[0, 0][: 2 * each]),
        "female_nurse_data_only": list(corners[1, 1][: 2 * each]),
    }


@pytest.fixture(scope="module")
def scr_case(lm: LanguageModel, saes: dict[str, Any]) -> Case:
    data = quadrants(
        "tinyworld/biographies", ("surgeon", "dentist"), context_of(saes), train=TRAIN, test=TEST
    )
    six = [sae_benchs_six(data.train, TRAIN // 4), sae_benchs_six(data.test, TEST // 4)]
    halves = [all_activations(lm, half) for half in six]
    probes = trained_probes(*halves, scr=True, epochs=20)
    with torch.no_grad():
        train, test = correlated(data, data.train), correlated(data, data.test)
        ours = probed(lm, context_of(saes), train, test, SETTINGS, [1, 2, 3])
    second, first, biased = probes.values()
    ordered = matrix({"first": first, "second": second, "biased": biased})
    pair = CorrelatedPair.of(replace(ours, probes=ordered))
    assert min(pair.gaps[1], pair.gaps[2]) > 0.1, "otherwise there is nothing to compare"
    return Case(*halves, probes, {"pair": pair})


@pytest.mark.parametrize("name", OBJECTS + FOLDERS)
def test_scr_is_sae_benchs(
    of_both: Imported, scr_case: Case, saes: dict[str, Any], lm: LanguageModel
) -> None:
    sae = of_both.ours
    theirs = results(of_both.theirs, scr_case.train, scr_case.test, scr_case.probes, list(NUMBERS), scr=True)
    ours, _ = SCR().score(sae, scr_case.prepared, lm, context_of(saes))
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert len({round(value, 4) for value in ours.values()}) > 3


@pytest.mark.parametrize("name", OBJECTS + FOLDERS)
def test_tpp_is_sae_benchs(
    of_both: Imported, tpp_case: Case, saes: dict[str, Any], lm: LanguageModel
) -> None:
    """As long as enough latents have an effect above 0; below that it ablates others (test_ablation.py)."""
    sae, use = of_both.ours, tpp_case.prepared["reviews"].probed
    effects = tpp_effects(use.use(sae).contrasts, use.directions(sae))
    enough = [n for n in NUMBERS if n <= int((effects > 0).sum(1).min())]
    assert len(enough) >= 4
    theirs = results(of_both.theirs, tpp_case.train, tpp_case.test, tpp_case.probes, enough, scr=False)
    ours, _ = TPP().score(sae, tpp_case.prepared, lm, context_of(saes))
    assert {key: ours[key] for key in theirs} == pytest.approx(theirs, abs=1e-4)
    assert max(abs(ours[key]) for key in theirs) > 0.02


def test_effects_are_sae_benchs(tpp_case: Case, scr_case: Case, saes: dict[str, Any]) -> None:
    sae = saes["jumprelu"]
    for case, scr, order in ((tpp_case, False, range(5)), (scr_case, True, [1, 0, 2])):
        with torch.no_grad():
            theirs = scr_and_tpp.get_all_node_effects_for_one_sae(
                sae, case.probes, list(case.probes), scr, case.train, 125
            )
        (prepared,) = case.prepared.values()
        ours = (scr_effects if scr else tpp_effects)(
            prepared.probed.use(sae).contrasts, prepared.probed.directions(sae)
        )
        for effects, row in zip(theirs.values(), order, strict=True):
            torch.testing.assert_close(ours[row].float(), effects, atol=1e-5, rtol=1e-3)


def test_sae_bench_tests_on_other_negatives_each_time(
    tpp_case: Case, saes: dict[str, Any], lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same probes on the same activations: it has another accuracy with every call, abench has one."""
    monkeypatch.undo()
    means = create_meaned_model_activations(tpp_case.test)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        each = [
            scr_and_tpp.get_probe_test_accuracy(tpp_case.probes, list(means), means, 500, False)
            for _ in range(3)
        ]
    assert any(accuracies != each[0] for accuracies in each)
    first, second = (TPP().score(saes["topk"], tpp_case.prepared, lm, context_of(saes)) for _ in range(2))
    assert first == second


class TestWhereTheBiasCostsNothing:
    """Pairs with planted accuracies: ties, and directions without a gap."""

    @pytest.fixture
    def pair(self, scr_case: Case) -> CorrelatedPair:
        return scr_case.prepared["pair"]

    def test_a_tie_of_directions_is_scored_by_their_mean(
        self, pair: CorrelatedPair, saes: dict[str, Any]
    ) -> None:
        tie = replace(pair, biased={1: 0.7, 2: 0.7}, unbiased={1: 0.9, 2: 1.0})
        scores = tie.scores(saes["topk"])
        assert tie.chosen == (1, 2)
        assert scores["metric"][20] == pytest.approx((scores["dir1"][20] + scores["dir2"][20]) / 2)
        assert not any("metric" in key for key in self.sae_benchs(0.7, 0.7))

    def test_a_direction_without_a_gap_has_no_score(self, pair: CorrelatedPair, saes: dict[str, Any]) -> None:
        none = replace(pair, biased={1: 0.8, 2: 0.9}, unbiased={1: 0.8, 2: 1.0})
        assert none.scores(saes["topk"]).keys() == {"dir2"}
        assert none.chosen == ()
        assert self.sae_benchs(0.8, 0.9, clean=(0.8, 1.0))["scr_metric_threshold_20"] == 0

    @staticmethod
    def sae_benchs(dir1: float, dir2: float, clean: tuple[float, float] = (0.9, 1.0)) -> dict[str, float]:
        biased = "male_professor / female_nurse probe on {} data"
        accuracies = {
            "professor / nurse": clean[0],
            "male / female": clean[1],
            biased.format("professor / nurse"): dir1,
            biased.format("male / female"): dir2,
        }
        ablated = {name: {20: accuracies} for name in ("male / female", "professor / nurse")}
        return scr_and_tpp.get_scr_plotting_dict(ablated, accuracies)


def test_negatives_are_spread_evenly_over_the_other_classes() -> None:
    """Ten of each class: the nine others give two each, of which ten are drawn."""
    texts = {str(c): [f"{c} {n}" for n in range(10)] for c in range(10)}
    everything, questions = one_against_others("a set", texts, seed=1)
    for number, question in enumerate(questions):
        assert {everything[row][0] for row in question.positive} == {str(number)}
        negatives = [everything[row] for row in question.negative]
        assert len(set(negatives)) == len(negatives) == 10
        counts = {c: sum(text[0] == c for text in negatives) for c in texts}
        assert counts[str(number)] == 0
        assert max(counts.values()) <= 2
