"""The truth about the tiny world: AUROC against scikit-learn's, planted latents, other text."""

from typing import Any

import numpy as np
import pytest
import torch
from abench.tasks.planted import POLES, Planted, auroc, poles_of
from pole_saes import AXES, planted
from scipy.sparse import csc_array
from signed import flipped, random_sae
from sklearn.metrics import roc_auc_score

from abench import DataSpec, Skip
from abench.conformance.bench import Bench
from abench.task import parted, reason_to_skip


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(limit=60)


def scored(bench: Bench, sae: Any, **options: Any) -> tuple[float, dict[str, float]]:
    bench._evaluation = bench._evaluation.model_copy(update={"tokens": 7680})
    task, ctx = Planted(**options), bench.context((sae,))
    with torch.no_grad():
        prepared = task.prepare(bench.lm, ctx)  # type: ignore[arg-type]
        scores, details = parted(task, task.score(sae, prepared, bench.lm, ctx))  # type: ignore[arg-type]
    return scores["auroc"], details["poles"]


def test_auroc_is_that_of_scikit_learn_with_ties_and_silent_sides() -> None:
    rng = np.random.default_rng(0)
    sides = np.round(np.maximum(rng.normal(size=(200, 6)), 0), 1)
    sides[:, 5] = 0
    poles = rng.random((200, 3)) < 0.2
    sides[:, 0] += poles[:, 0]
    found = auroc(csc_array(sides), poles)
    for pole in range(3):
        for side in range(6):
            assert found[pole, side] == pytest.approx(roc_auc_score(poles[:, pole], sides[:, side]))
    assert auroc(csc_array(poles.astype(float)), poles).diagonal().tolist() == [1, 1, 1]
    assert auroc(csc_array(sides), np.zeros((200, 1), bool)).tolist() == [[0.5] * 6]


def test_latents_that_read_an_axis_off_are_found_and_random_ones_are_not(bench: Bench) -> None:
    _, poles = scored(bench, planted(bench.lm, bench.site))  # type: ignore[arg-type]
    low, others = scored(bench, random_sae("abstopk", width=64, k=4, seed=3))
    assert low == pytest.approx(np.mean([*others.values()]))
    for axis in AXES:
        for pole in (f"{axis}-", f"{axis}+"):
            assert poles[pole] > others[pole] + 0.1


def test_a_flipped_sae_finds_as_much_and_another_seed_reads_other_text(bench: Bench) -> None:
    sae = bench.saes["signed"]
    score, _ = scored(bench, sae)
    assert scored(bench, flipped(sae))[0] == pytest.approx(score)
    assert 0.5 < score < 1
    other = bench.with_limit(60)
    other._evaluation = bench._evaluation.model_copy(update={"seed": 1})
    assert scored(other, sae)[0] != score


def test_poles_are_those_of_the_world_s_words(bench: Bench) -> None:
    ids = [bench.lm.tokenizer(f" {word}")["input_ids"][-1] for word in ("queen", "the", "was")]  # type: ignore[union-attr]
    found = poles_of(torch.tensor(ids), bench.lm)  # type: ignore[arg-type]
    named = [{pole for pole, own in zip(POLES, row, strict=True) if own} for row in found]
    assert "gender+" in named[0] and "gender-" not in named[0]
    assert named[1] == set()
    assert named[2] == {"tense-", "number-"}


def test_other_text_and_too_little_text_are_skipped(bench: Bench) -> None:
    ctx = bench.context(())
    hub = DataSpec(source="hub", dataset="x/y")
    elsewhere = type(ctx)(ctx.site, ctx.evaluation, hub, ctx.context_size)
    assert "not known" in (reason_to_skip(Planted(), bench.lm, elsewhere) or "")
    small = bench.with_limit(1)
    with pytest.raises(Skip, match="one for each half"):
        Planted().prepare(small.lm, small.context(()))  # type: ignore[arg-type]
