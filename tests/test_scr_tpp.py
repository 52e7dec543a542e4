"""SCR and TPP: signs and order of latents, the two views, planted concepts, data that will not do."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from abench.tasks._shared.ablation import Probed
from abench.tasks._shared.labelled import TINY_PAIRS, Labelled, Quadrants, labelled, quadrants
from abench.tasks._shared.linear_probes import ProbeQuestion, Probes
from abench.tasks.scr import SCR, CorrelatedPair, correlated
from abench.tasks.tpp import TPP, one_against_others
from signed import WideSAE, flipped, permuted, random_sae
from torch import Tensor

from abench import Context, LanguageModel, OfEach, Skip, SplitSAE, UserError, pool
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.task import checked, parted
from abench.tinyworld import MODEL_DIR

SITE = "blocks.2.hook_resid_post"
PROFESSIONS = ("professor", "nurse", "surgeon", "journalist", "teacher")
PAIRS = TINY_PAIRS["tinyworld/biographies"]
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "scr": {"datasets": ["tinyworld/biographies"], "train": 400, "test": 200},
    "tpp": {"datasets": ["tinyworld/biographies"], "train": 200, "test": 100},
}


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def context_of(*saes: Any, limit: int | None = None, seed: int = 0) -> Context:
    data = DataSpec(source="tinyworld", dataset=None)
    return Context(SITE, EvaluationSpec(limit=limit, seed=seed), data, 128, saes=saes)


def task_named(name: str, **changes: Any) -> Any:
    return get_task(name, {**OPTIONS[name], **changes}, find_tasks())


def linear_sae(read: Tensor, offset: Tensor, write: Tensor) -> Any:
    """Signed latents, always on, two for each of n directions: codes x·read + offset, rows write / 2.

    `read` is [d, n], `offset` [n], `write` [n, d].
    """
    from sae_lens.saes.abstopk_sae import AbsTopKSAE, AbsTopKSAEConfig

    width = 2 * len(write)
    config = AbsTopKSAEConfig(d_in=write.shape[1], d_sae=width, k=width, apply_b_dec_to_input=False)
    sae = AbsTopKSAE(config).requires_grad_(False)
    sae.W_enc.data, sae.b_enc.data = read.repeat(1, 2), offset.repeat(2)
    sae.W_dec.data = write.repeat(2, 1) / 2
    return sae


def concept_sae(x: Tensor, concepts: Tensor, noise: float = 1e-2) -> Any:
    """Two signed latents for each concept, that read `concepts` [texts, n] off mean activations x [texts, d].

    Their decoder rows are the differences of means that go with the concepts; ablating both latents of one
    takes it away and nothing else.
    """
    mean = x.mean(0)
    centred, wanted = x - mean, concepts - concepts.mean(0)
    spread = noise * len(x) * float(centred.var()) * torch.eye(x.shape[1])
    read = torch.linalg.solve(centred.T @ centred + spread, centred.T @ wanted)
    return linear_sae(read, -(mean @ read), torch.linalg.lstsq(wanted, centred).solution)


def means_of(lm: LanguageModel, groups: Mapping[Any, Sequence[str]]) -> tuple[Tensor, list[Any]]:
    """Mean residual streams of all texts, and the group that each belongs to."""
    x = torch.cat([pool(lm, texts, site=SITE, saes=[], context=128).residual for texts in groups.values()])
    return x, [group for group, texts in groups.items() for _ in texts]


@pytest.fixture(scope="module")
def concepts(lm: LanguageModel) -> dict[str, Any]:
    """SAEs whose latents are the professions and the genders of texts of another seed."""
    ctx, name = context_of(seed=9), "tinyworld/biographies"
    x, groups = means_of(lm, labelled(name, ctx, train=400, test=4).train)
    profession = torch.tensor([[float(group == each) for each in PROFESSIONS[:4]] for group in groups])
    corners = {
        (pair[i], j): texts
        for pair in PAIRS
        for (i, j), texts in quadrants(name, pair, ctx, train=400, test=4).train.items()
    }
    y, groups = means_of(lm, corners)
    rows = [[float(c == a) - float(c == b) for a, b in PAIRS] + [1.0 - 2 * gender] for c, gender in groups]
    return {"tpp": concept_sae(x, profession), "scr": concept_sae(y, torch.tensor(rows))}


@pytest.fixture(scope="module")
def saes(concepts: dict[str, Any]) -> dict[str, Any]:
    random = random_sae("abstopk", width=200)
    each = {
        "signed": random,
        "flipped": flipped(random),
        "wide": WideSAE(random),
        "plain": random_sae("topk"),
    }
    planted = {f"{name} planted": sae for name, sae in concepts.items()}
    turned = {f"{name} planted, turned": permuted(flipped(sae)) for name, sae in concepts.items()}
    return each | planted | turned


@pytest.fixture(scope="module", params=["scr", "tpp"])
def scored(request: pytest.FixtureRequest, lm: LanguageModel, saes: dict[str, Any]) -> tuple[str, Any, Any]:
    """A task's name, scores by SAE (and view), and its details."""
    task, ctx = task_named(request.param), context_of(*saes.values())
    seen = {**saes, "split": SplitSAE(saes["signed"]), "split, flipped": SplitSAE(saes["flipped"])}
    before = torch.get_rng_state()
    with torch.no_grad():
        prepared = task.prepare(lm, ctx)
        results = {name: parted(task, task.score(sae, prepared, lm, ctx)) for name, sae in seen.items()}
    assert torch.equal(torch.get_rng_state(), before)
    scores = {name: checked(task, values) for name, (values, _) in results.items()}
    return request.param, scores, {name: details for name, (_, details) in results.items()}


def test_flipping_latents_changes_nothing_in_either_view(scored: tuple[str, Any, Any]) -> None:
    name, scores, _ = scored
    assert scores["flipped"] == pytest.approx(scores["signed"], abs=1e-6)
    assert scores["split, flipped"] == pytest.approx(scores["split"], abs=1e-6)
    turned, planted = scores[f"{name} planted, turned"], scores[f"{name} planted"]
    assert turned == pytest.approx(planted, abs=1e-6)


def test_the_split_view_is_the_wide_saes_native_one(scored: tuple[str, Any, Any]) -> None:
    _, scores, _ = scored
    assert scores["split"] == pytest.approx(scores["wide"], abs=1e-6)
    assert scores["split"] != pytest.approx(scores["signed"], abs=1e-3)


def test_planted_concepts_score_high_and_random_latents_near_nothing(scored: tuple[str, Any, Any]) -> None:
    """Two latents tell each concept, so at 2 all of it is ablated and nothing else.

    What a probe learned beside the difference of means stays with it, so this is not the optimum.
    """
    name, scores, _ = scored
    metric = {"scr": "scr_metric_threshold_2", "tpp": "tpp_threshold_2_total_metric"}[name]
    least = {"scr": 0.4, "tpp": 0.25}[name]
    assert scores[f"{name} planted"][metric] > least
    assert abs(scores["plain"][metric]) < 0.1
    assert abs(scores["signed"][metric]) < 0.1


def test_ablating_all_that_a_probe_reads_is_the_optimum_of_tpp(lm: LanguageModel) -> None:
    """Two latents for each probe's logit: it becomes a constant, and no other probe's does."""
    with torch.no_grad():
        probes = _prepared("tpp", lm)["tinyworld/biographies"].probed.probes
        ideal = linear_sae(probes.weight.T, probes.bias + 0.1, torch.linalg.pinv(probes.weight).T)
        scores, details = task_named("tpp").score(ideal, _prepared("tpp", lm, ideal), lm, context_of(ideal))
    clean = details["tinyworld/biographies"]["clean_accuracy"].values()
    assert scores["tpp_threshold_2_intended_diff_only"] == pytest.approx(sum(clean) / 5 - 0.5)
    assert scores["tpp_threshold_2_unintended_diff_only"] == pytest.approx(0, abs=1e-9)


def test_ablating_all_that_the_bias_added_is_the_optimum_of_scr(lm: LanguageModel) -> None:
    """A latent for the biased probe's logit less the unbiased one's: what is left is the unbiased one's."""
    with torch.no_grad():
        ideals = {}
        for name, pair in _prepared("scr", lm).items():
            first, second, biased = zip(pair.probed.probes.weight, pair.probed.probes.bias, strict=True)
            write = biased[0] / biased[0].square().sum()
            for direction, (weight, bias) in ((1, first), (2, second)):
                read, offset = (biased[0] - weight)[:, None], (biased[1] - bias)[None]
                ideals[name, direction] = linear_sae(read, offset, write[None])
        prepared = _prepared("scr", lm, *ideals.values())
        for (name, direction), ideal in ideals.items():
            assert prepared[name].scores(ideal)[f"dir{direction}"][2] == pytest.approx(1)


def _prepared(name: str, lm: LanguageModel, *saes: Any) -> Any:
    small = {"train": 80, "test": 80}
    return task_named(name, **small).prepare(lm, context_of(*saes))


def test_details_are_small_and_tell_the_pairs(scored: tuple[str, Any, Any]) -> None:
    name, scores, details = scored
    assert all(len(str(each)) < 8000 for each in details.values())
    if name == "tpp":
        clean = details["plain"]["tinyworld/biographies"]["clean_accuracy"]
        assert set(clean) == set(PROFESSIONS)
        assert min(clean.values()) > 0.7
    else:
        pairs = details["plain"]["pairs"]
        assert len(pairs) == 4
        assert 0 < details["plain"]["pairs_scored"] <= 4
        means = [p["scores"]["metric"]["20"] for p in pairs.values() if "metric" in p["scores"]]
        assert scores["plain"]["scr_metric_threshold_20"] == pytest.approx(sum(means) / len(means))


@pytest.mark.parametrize("task", [SCR, TPP])
def test_declared_metrics_are_sae_benchs(task: Any) -> None:
    from sae_bench.evals.scr_and_tpp.eval_output import ScrMetrics, TppMetrics

    theirs = {SCR: ScrMetrics, TPP: TppMetrics}[task]
    assert {metric.name for metric in task.metrics} == set(theirs.__dataclass_fields__)
    assert [metric.name for metric in task.metrics if metric.headline] == [
        {SCR: "scr_metric_threshold_20", TPP: "tpp_threshold_20_total_metric"}[task]
    ]
    assert len({metric.description for metric in task.metrics}) == len(task.metrics)


def test_defaults_are_sae_benchs_but_for_the_tiny_worlds_sizes() -> None:
    from sae_bench.evals.scr_and_tpp.eval_config import ScrAndTppEvalConfig

    theirs, ours = ScrAndTppEvalConfig(), TPP()
    assert ours.sizes(tiny=False) == {"train": theirs.train_set_size, "test": theirs.test_set_size}
    assert (ours.context, ours.probe_epochs) == (theirs.context_length, theirs.probe_epochs)
    assert (ours.probe_batch_size, ours.probe_lr) == (theirs.probe_train_batch_size, theirs.probe_lr)
    assert (ours.probe_l1, ours.probe_patience) == (theirs.probe_l1_penalty, theirs.early_stopping_patience)
    assert TPP(train=100).sizes(tiny=True) == {"train": 100, "test": 400}


@pytest.mark.parametrize("name", ["scr", "tpp"])
def test_a_limit_cuts_the_texts(name: str, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(lm: Any, texts: Sequence[str], **more: Any) -> Any:
        seen.append(len(texts))
        return pool(lm, texts, **more)

    monkeypatch.setattr("abench.latents.pooling.pool", counted)
    task_named(name, probe_epochs=20).prepare(lm, context_of(limit=24))
    assert max(seen) <= 24 * 5 // 2


CORNERS = {
    (i, j): [f"text {n} of {i} {j}" for n in range(4 if i == j else 2)] for i in (0, 1) for j in (0, 1)
}
data_of = partial(Quadrants, "a set", ("a", "b"), ("m", "f"), CORNERS)


def test_the_biased_question_takes_all_of_the_diagonal() -> None:
    texts, (first, second, biased) = correlated(data_of(CORNERS), CORNERS)
    sides = [
        {texts[row][-3:] for row in side}
        for q in (first, second, biased)
        for side in (q.positive, q.negative)
    ]
    assert sides == [{"0 0", "0 1"}, {"1 0", "1 1"}, {"0 0", "1 0"}, {"0 1", "1 1"}, {"0 0"}, {"1 1"}]
    assert [len(q.rows) for q in (first, second, biased)] == [8, 8, 8]


def test_a_corner_without_texts_is_a_sentence() -> None:
    with pytest.raises(Skip, match="the data set 'a set' has no texts of 'b' with 'm'"):
        correlated(data_of(CORNERS), {**CORNERS, (1, 0): []})


def test_one_class_or_an_empty_one_is_a_sentence() -> None:
    with pytest.raises(Skip, match="the data set 'x' needs texts of at least two classes; it has 3 of"):
        one_against_others("x", {"nurse": ["a", "b", "c"]}, 0)
    with pytest.raises(Skip, match="0 of 'surgeon'"):
        one_against_others("x", {"nurse": ["a"], "surgeon": []}, 0)


def test_classes_of_different_sizes_are_cut_to_the_smallest() -> None:
    data = Labelled("x", {"a": tuple("12345"), "b": tuple("678")}, {})
    texts, questions = one_against_others("x", data.train, 0)
    assert texts == list("123678")
    assert [len(q.rows) for q in questions] == [6, 6]


@pytest.mark.parametrize("name", ["scr", "tpp"])
def test_an_unknown_data_set_is_a_sentence(name: str, lm: LanguageModel) -> None:
    with pytest.raises(UserError, match="no_such_set"):
        task_named(name, datasets=["no_such_set"]).prepare(lm, context_of())
    with pytest.raises(UserError, match="option 'train' of task"):
        task_named(name, train=1)


@pytest.mark.parametrize("name", ["scr", "tpp"])
def test_hub_data_are_sae_benchs_and_without_a_network_one_sentence(name: str, lm: LanguageModel) -> None:
    from abench.tasks import scr, tpp
    from abench.tasks._shared import labelled_hub

    ctx = replace(context_of(), data=DataSpec(source="hub"))
    names = {"scr": tuple(scr._known_pairs(ctx)), "tpp": tpp._default_datasets(ctx)}[name]
    assert len(names) == 2
    assert set(names) <= set(labelled_hub.names())
    with pytest.raises(UserError, match="LabHC/bias_in_bios"):
        get_task(name, {}, find_tasks()).prepare(lm, ctx)


def test_an_empty_text_is_a_sentence(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_a_gap(name: str, ctx: Context, **sizes: int) -> Labelled:
        data = labelled(name, ctx, **sizes)
        return replace(data, train={**data.train, "nurse": ("", *data.train["nurse"][1:])})

    monkeypatch.setattr("abench.tasks.tpp.labelled", with_a_gap)
    with pytest.raises(UserError, match="has no tokens"):
        task_named("tpp", train=8, test=8).prepare(lm, context_of())


def test_where_the_correlation_costs_nothing_there_is_nothing_to_score(lm: LanguageModel) -> None:
    """One text a corner: every probe is right about all or the biased one no worse than the others."""
    with pytest.raises(Skip, match="costs the probes of 4 pairs of classes too little"):
        _with_gaps_of(lm, CorrelatedPair, 0.0)


def test_one_text_in_a_thousand_is_enough_at_every_accuracy() -> None:
    """The difference of two accuracies is 0.001 up to rounding, and rounding must not decide."""
    rows = torch.arange(500)
    question = ProbeQuestion(rows, rows + 500)
    probes = Probes(torch.zeros(3, 4), torch.zeros(3))
    probed = Probed(probes, (question, question), torch.zeros(1000, 4), OfEach())
    accuracies = [right / 1000 for right in range(1000)]
    assert len({after - before >= 1e-3 for before, after in pairwise(accuracies)}) == 2
    for before, after in pairwise(accuracies):
        assert set(CorrelatedPair(probed, {1: before, 2: before}, {1: after, 2: before}).gaps) == {1}


def _with_gaps_of(lm: LanguageModel, pair: type, gap: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair, "gaps", property(lambda self: {} if gap == 0 else {1: gap}))
        task_named("scr", train=16, test=16, probe_epochs=1).prepare(lm, context_of())


def test_an_sae_that_never_fires_changes_nothing(lm: LanguageModel) -> None:
    silent = random_sae("relu", width=600)
    silent.b_enc -= 1e6
    for name in ("scr", "tpp"):
        task, ctx = task_named(name, train=80, test=80), context_of(silent)
        with torch.no_grad():
            scores = task.score(silent, task.prepare(lm, ctx), lm, ctx)[0]
        assert set(scores.values()) == {0.0}


def test_a_revision_is_of_a_data_set_with_a_second_attribute() -> None:
    for name in ("LabHC/bias_in_bios", "canrager/amazon_reviews_mcauley_1and5"):
        assert SCR(revisions={name: "a"}).revisions == {name: "a"}
    with pytest.raises(ValueError, match="the task does not read 'fancyzhx/ag_news', only LabHC"):
        SCR(revisions={"fancyzhx/ag_news": "a"})
