"""Sparse probing against sae-bench's functions, planted truth and its own symmetries; the bundled model."""

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from abench.tasks._shared import labelled as labelled_module
from abench.tasks._shared.labelled import Labelled, labelled
from abench.tasks._shared.probes import held_out_accuracy, one_against_rest
from foreign_saes import saelens_sae
from imported_saes import Imported, imported
from probe_oracle import activations
from sae_bench.evals.sparse_probing import probe_training
from sae_bench.sae_bench_utils.activation_collection import (
    create_meaned_model_activations,
    get_sae_meaned_activations,
)
from scipy.optimize import minimize
from signed import WideSAE, flipped, permuted, random_sae
from torch import Tensor

from abench import Context, LanguageModel, SplitSAE, UserError, pool
from abench.config import DataSpec, EvaluationSpec
from abench.conformance.rewritten import normalising
from abench.latents import codes as codes_module
from abench.plugins import find_tasks, get_task
from abench.task import checked, parted
from abench.tinyworld import MODEL_DIR

# sae-bench gives scikit-learn its default penalty by name.
pytestmark = pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning")

SITE = "blocks.2.hook_resid_post"
DATA = DataSpec(source="tinyworld", dataset=None)
BIOGRAPHIES, GENDER, SENTIMENT = (
    "tinyworld/biographies",
    "tinyworld/biographies_gender",
    "tinyworld/reviews_sentiment",
)
SIZES = {"train_texts": 80, "test_texts": 40, "context": 32}
TOP = [f"sae_top_{k}_test_accuracy" for k in (1, 2, 5)]
Scores = Mapping[str, float]


@pytest.fixture(autouse=True)
def unchecked_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """sae-bench's shape annotations contradict each other: a class's texts and those of both share a name."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def context_of(*saes: Any, seed: int = 3, limit: int | None = None) -> Context:
    spec = EvaluationSpec(seed=seed, limit=limit)
    return Context(SITE, spec, DATA, context_size=128, saes=saes)


@torch.no_grad()
def scored(lm: LanguageModel, *saes: Any, ctx: Context | None = None, **options: Any) -> list[Scores]:
    """Scores of SAEs (split ones among them) that were prepared together."""
    task = get_task(
        "sparse_probing", {"datasets": [BIOGRAPHIES, SENTIMENT], **SIZES, **options}, find_tasks()
    )
    bases = tuple(dict.fromkeys(sae.base if isinstance(sae, SplitSAE) else sae for sae in saes))
    ctx = replace(ctx or context_of(), saes=bases)
    prepared = task.prepare(lm, ctx)
    return [checked(task, parted(task, task.score(sae, prepared, lm, ctx))[0]) for sae in saes]


def padded(lm: LanguageModel, half: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """What sae-bench keeps of a model: class -> residual stream [texts, context, d_model], 0 at padding."""
    return {c: activations(lm, texts, SITE, context=SIZES["context"]) for c, texts in half.items()}


class SAEBench:
    """sae-bench's own functions on the same texts, after the same seed."""

    def __init__(self, lm: LanguageModel, name: str) -> None:
        data = labelled(name, context_of(), train=SIZES["train_texts"], test=SIZES["test_texts"])
        self.train = data.train
        self.acts = [padded(lm, half) for half in (data.train, data.test)]

    @torch.no_grad()
    def top(self, k: int, sae: Any = None) -> float:
        """Mean accuracy over the classes, of codes or, without an SAE, of the residual stream."""
        means = [
            create_meaned_model_activations(half)
            if sae is None
            else get_sae_meaned_activations(half, sae, 125)
            for half in self.acts
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            _, accuracies = probe_training.train_probe_on_activations(*means, select_top_k=k)
        torch.set_grad_enabled(False)
        return float(np.mean(list(accuracies.values())))


VARIANTS = ["topk", "relu", "jumprelu", "abstopk"]
FOLDED = ["none", "expected_average_only_in"]
"""Normalisations under which an SAE that was saved encodes activations as they are."""
ONE_TEXT = 1 / (2 * 5 * SIZES["test_texts"])
"""What one text of the data set with the most classes is worth in a mean over two data sets."""


@pytest.fixture(scope="module")
def sae_bench(lm: LanguageModel) -> dict[str, SAEBench]:
    return {name: SAEBench(lm, name) for name in (BIOGRAPHIES, SENTIMENT)}


@pytest.mark.parametrize(
    ("variant", "from_folder"),
    [
        *((each, None) for each in VARIANTS),
        *((each, kind) for each in ("topk", "abstopk") for kind in FOLDED),
    ],
    ids=[*VARIANTS, *(f"{each} from a folder, {kind}" for each in ("topk", "abstopk") for kind in FOLDED)],
)
def test_equals_sae_bench(
    lm: LanguageModel,
    sae_bench: dict[str, SAEBench],
    variant: str,
    from_folder: str | None,
    tmp_path: Path,
) -> None:
    sae = random_sae(variant)
    of_both = imported(normalising(sae, from_folder), tmp_path) if from_folder else Imported(sae, sae)
    (ours,) = scored(lm, of_both.ours)
    for k in (1, 2, 5):
        of_sae = np.mean([each.top(k, of_both.theirs) for each in sae_bench.values()])
        of_model = np.mean([each.top(k) for each in sae_bench.values()])
        assert ours[f"sae_top_{k}_test_accuracy"] == pytest.approx(of_sae, abs=1e-4)
        # The model's pass is batched otherwise than theirs: rounding can put a text across the border.
        assert ours[f"llm_top_{k}_test_accuracy"] == pytest.approx(of_model, abs=ONE_TEXT + 1e-4)


class CodesTimesFactor:
    """sae-lens's SAE with codes in units of the residual stream.

    Each token's codes are multiplied by the factor that the decoder applies to that token, and each latent's
    by the norm of its decoder row.
    """

    def __init__(self, sae: Any) -> None:
        self._sae, self._kind, self.dtype = sae, sae.cfg.normalize_activations, sae.dtype

    def encode(self, x: Tensor) -> Tensor:
        spread = {
            "none": torch.ones_like(x[..., :1]),
            "layer_norm": x.std(-1, keepdim=True),
            "constant_norm_rescale": x.square().mean(-1, keepdim=True).sqrt(),
        }[self._kind]
        codes: Tensor = self._sae.encode(x) * spread * self._sae.W_dec.norm(dim=-1)
        # Padding has no spread; sae-lens divides by its norm, which gives NaN, if it rescales tokens.
        return torch.where(spread > 0, codes, 0.0)


@pytest.mark.parametrize("variant", ["topk", "abstopk"])
@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale", "none"])
def test_an_sae_with_codes_in_other_units_differs_from_sae_bench_by_the_unit_only(
    lm: LanguageModel, sae_bench: dict[str, SAEBench], kind: str, variant: str, tmp_path: Path
) -> None:
    """sae-bench averages codes in units of each token's spread or each row's norm; abench converts them.

    Encoding is the same; once sae-bench gets converted codes, so are the means and the scores.
    """
    other_norms = saelens_sae(variant, lm.d_model).requires_grad_(False)
    sae = other_norms if kind == "none" else normalising(random_sae(variant), kind)
    theirs, ours = imported(sae, tmp_path)
    converted = CodesTimesFactor(theirs)
    biographies = sae_bench[BIOGRAPHIES]
    train = biographies.acts[0]
    tokens = torch.cat([x[x.abs().sum(-1) > 0] for x in train.values()])
    torch.testing.assert_close(ours.encode(tokens), theirs.encode(tokens))

    texts = [text for of_class in biographies.train.values() for text in of_class]
    pooled = pool(lm, texts, site=SITE, saes=[ours], context=SIZES["context"]).codes(ours)
    means, of_converted, of_sae_lens = (
        pooled.columns(slice(None)),
        *(torch.cat([*get_sae_meaned_activations(train, s, 125).values()]) for s in (converted, theirs)),
    )
    torch.testing.assert_close(means, of_converted, atol=1e-4, rtol=0)
    # Means are up to 16; those of codes as sae-lens gives them differ, or are NaN where there is padding.
    assert not torch.allclose(means, of_sae_lens, atol=1, rtol=0)

    (scores,) = scored(lm, ours)
    for k in (1, 2, 5):
        mean = np.mean([each.top(k, converted) for each in sae_bench.values()])
        assert scores[f"sae_top_{k}_test_accuracy"] == pytest.approx(mean, abs=1e-4)


def test_without_converting_codes_the_scores_are_sae_benchs(
    lm: LanguageModel, sae_bench: dict[str, SAEBench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same from the other side: the factor is all that separates the two."""
    theirs, ours = imported(normalising(random_sae("topk"), "layer_norm"), tmp_path)
    mean = {k: np.mean([each.top(k, theirs) for each in sae_bench.values()]) for k in (1, 2, 5)}
    (converted,) = scored(lm, ours)
    monkeypatch.setattr(codes_module, "output_gain", lambda *_: None)
    (as_encoded,) = scored(lm, ours)
    expected = {f"sae_top_{k}_test_accuracy": value for k, value in mean.items()}
    assert {name: as_encoded[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    assert converted["sae_top_1_test_accuracy"] != pytest.approx(mean[1], abs=1e-2)


def test_the_split_view_equals_sae_bench_on_the_wide_sae(
    lm: LanguageModel, sae_bench: dict[str, SAEBench]
) -> None:
    sae = random_sae("abstopk")
    (ours,) = scored(lm, SplitSAE(sae))
    for k in (1, 2, 5):
        theirs = np.mean([each.top(k, WideSAE(sae)) for each in sae_bench.values()])
        assert ours[f"sae_top_{k}_test_accuracy"] == pytest.approx(theirs, abs=1e-4)


def test_sae_bench_draws_other_negatives_each_time(lm: LanguageModel) -> None:
    """The defect: negatives come from the global random state, so equal SAEs score differently."""
    theirs = SAEBench(lm, BIOGRAPHIES)
    means = [get_sae_meaned_activations(half, random_sae("topk"), 125) for half in theirs.acts]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        runs = [probe_training.train_probe_on_activations(*means, select_top_k=1)[1] for _ in range(2)]
    torch.set_grad_enabled(True)
    assert runs[0] != runs[1]
    same = scored(lm, random_sae("topk"), random_sae("topk"))
    assert same[0] == same[1]


def test_the_models_own_accuracy_is_a_fitted_probes(lm: LanguageModel) -> None:
    """The defect: sae-bench's probe of the whole residual stream is the best of its epochs on the test half.

    Ours is the minimum of the regularised likelihood, whatever the test half holds.
    """
    data = labelled(SENTIMENT, context_of(), train=80, test=40)
    (ours,) = scored(lm, random_sae("topk"), datasets=[SENTIMENT])
    x, rows = _pooled(lm, data)
    accuracies = []
    for problem in one_against_rest(*rows, seed=3):
        sign = 2.0 * problem.train.labels - 1
        train = x[problem.train.rows]

        def loss(w: Any, train: Any = train, sign: Any = sign) -> float:
            return float(np.logaddexp(0, -sign * (train @ w[1:] + w[0])).sum() + 0.5 * w[1:] @ w[1:])

        w = minimize(loss, np.zeros(x.shape[1] + 1), method="L-BFGS-B", options={"maxfun": 10**6}).x
        accuracies.append(np.mean((x[problem.test.rows] @ w[1:] + w[0] > 0) == problem.test.labels))
    assert ours["llm_test_accuracy"] == pytest.approx(np.mean(accuracies), abs=1e-4)


def _pooled(lm: LanguageModel, data: Labelled) -> tuple[Any, tuple[dict[str, range], dict[str, range]]]:
    """Mean residuals [texts, d_model] in float64, and the rows of each class in each half."""
    texts: list[str] = []
    rows: tuple[dict[str, range], dict[str, range]] = ({}, {})
    for half, numbers in zip((data.train, data.test), rows, strict=True):
        for name, each in half.items():
            numbers[name] = range(len(texts), len(texts) + len(each))
            texts += each
    residual = pool(lm, texts, site=SITE, saes=[], context=SIZES["context"]).residual
    return residual.double().numpy(), rows


def test_noise_is_at_chance_where_sae_benchs_whole_probe_is_above() -> None:
    """The same defect by itself: on noise the best epoch on the test half is better than a coin."""
    generator = torch.Generator().manual_seed(0)
    train = {"a": range(50), "b": range(50, 100)}
    test = {"a": range(100, 120), "b": range(120, 140)}
    ours, theirs = [], []
    for _ in range(30):
        x = torch.randn(140, 64, generator=generator)
        problem = one_against_rest(train, test, seed=0)[0]
        ours.append(held_out_accuracy(x.numpy(), problem))
        halves = [
            each
            for half in (problem.train, problem.test)
            for each in (x[torch.from_numpy(half.rows)], torch.from_numpy(half.labels))
        ]
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            probe = partial(probe_training.train_probe_gpu, dim=64, batch_size=250, epochs=100, lr=1e-2)
            theirs.append(probe(*halves)[1])
    assert np.mean(ours) == pytest.approx(0.5, abs=0.03)
    assert np.mean(theirs) > 0.55


def test_no_score_depends_on_signs_or_order(lm: LanguageModel) -> None:
    sae = random_sae("abstopk")
    others = [flipped(sae, 1), flipped(sae, 2), permuted(sae)]
    native, *same = scored(lm, sae, *others)
    split, *same_split = scored(lm, SplitSAE(sae), *map(SplitSAE, others))
    for expected, found in [(native, each) for each in same] + [(split, each) for each in same_split]:
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-6), name
    assert any(native[name] != split[name] for name in TOP)


@pytest.mark.parametrize("variant", ["abstopk", "topk"])
def test_split_is_the_wide_sae(lm: LanguageModel, variant: str) -> None:
    sae = random_sae(variant)
    native, split, wide = scored(lm, sae, SplitSAE(sae), WideSAE(sae))
    assert split == wide
    if variant == "topk":
        assert split == native


def concept_sae(x: Tensor, owner: Tensor, *, blind: bool = False) -> Any:
    """A ReLU SAE with a latent for each class, in the direction of its mean less that of all.

    It reads along that difference with what varies within the classes divided out. `blind`: it reads random
    directions, from which all those differences are projected out.
    """
    from sae_lens import StandardSAE, StandardSAEConfig

    means = torch.stack([x[owner == c].mean(0) for c in owner.unique()])
    concepts = means - means.mean(0)
    reads = concepts @ torch.linalg.inv(torch.cov((x - means[owner]).T) + 1e-3 * torch.eye(x.shape[1]))
    if blind:
        basis = torch.linalg.qr(concepts.T).Q
        reads = torch.randn(means.shape, generator=torch.Generator().manual_seed(0))
        reads = reads - reads @ basis @ basis.T
    sae = StandardSAE(StandardSAEConfig(d_in=x.shape[1], d_sae=len(means), apply_b_dec_to_input=False))
    reads = reads / reads.norm(dim=-1, keepdim=True)
    sae.W_enc.data, sae.W_dec.data = reads.T.clone(), concepts.clone()
    sae.b_enc.data = 10 - x.mean(0) @ reads.T
    return sae.requires_grad_(False)


@pytest.mark.parametrize("name", [BIOGRAPHIES, GENDER])
def test_planted_concepts_are_found(lm: LanguageModel, name: str) -> None:
    ctx = context_of(seed=7)
    data = labelled(name, ctx, train=400, test=4)
    texts = [text for each in data.train.values() for text in each]
    owner = torch.arange(len(data.train)).repeat_interleave(200)
    x = pool(lm, texts, site=SITE, saes=[], context=32).residual
    planted, blind = concept_sae(x, owner), concept_sae(x, owner, blind=True)
    sizes = {"datasets": [name], "train_texts": 200, "test_texts": 100}
    found, moved, lost = scored(lm, planted, permuted(planted), blind, **sizes)
    assert found["sae_top_1_test_accuracy"] > 0.95
    assert moved == pytest.approx(found, abs=1e-6)
    assert lost["sae_top_1_test_accuracy"] < 0.65
    assert found["llm_test_accuracy"] > 0.95


def test_the_chosen_latents_are_the_planted_ones(lm: LanguageModel) -> None:
    ctx = context_of(seed=7)
    data = labelled(BIOGRAPHIES, ctx, train=400, test=4)
    texts = [text for each in data.train.values() for text in each]
    x = pool(lm, texts, site=SITE, saes=[], context=32).residual
    sae = concept_sae(x, torch.arange(5).repeat_interleave(200))
    task = get_task("sparse_probing", {"datasets": [BIOGRAPHIES], **SIZES}, find_tasks())
    ctx = context_of(sae)
    scores, details = parted(task, task.score(sae, task.prepare(lm, ctx), lm, ctx))
    chosen = details["latents"][BIOGRAPHIES]
    assert [chosen[name][0] for name in data.train] == [0, 1, 2, 3, 4]
    assert details["datasets"][BIOGRAPHIES] == pytest.approx(scores)


def test_a_signed_latent_counts_with_its_sign(lm: LanguageModel) -> None:
    """Gender on one signed latent: its poles are two answers, which magnitudes alone would not tell apart."""
    from sae_lens.saes.abstopk_sae import AbsTopKSAE, AbsTopKSAEConfig

    ctx = context_of(seed=7)
    data = labelled(GENDER, ctx, train=400, test=4)
    x, rows = _pooled(lm, data)
    x = torch.from_numpy(x).float()
    means = [x[list(rows[0][name])].mean(0) for name in ("male", "female")]
    direction = (means[1] - means[0]) / (means[1] - means[0]).norm()
    sae = AbsTopKSAE(AbsTopKSAEConfig(d_in=128, d_sae=1, k=1, apply_b_dec_to_input=False))
    sae.requires_grad_(False)
    sae.W_enc.data, sae.W_dec.data = direction[:, None].clone(), direction[None].clone()
    sae.b_enc.data = -(x.mean(0) @ direction)[None]
    options = {"datasets": [GENDER], "train_texts": 200, "test_texts": 100}
    native, split = scored(lm, sae, SplitSAE(sae), **options)
    assert native["sae_top_1_test_accuracy"] > 0.95
    assert native["sae_top_2_test_accuracy"] == native["sae_top_1_test_accuracy"]
    assert split["sae_top_2_test_accuracy"] > 0.95


def test_negatives_are_an_even_mixture_of_the_rest() -> None:
    train = {name: range(start, start + 20) for name, start in (("a", 0), ("b", 20), ("c", 40), ("d", 60))}
    test = {name: range(start, start + 10) for name, start in (("a", 80), ("b", 90), ("c", 100), ("d", 110))}
    for problem in one_against_rest(train, test, seed=0):
        for half, rows, size in ((problem.train, train, 20), (problem.test, test, 10)):
            assert sorted(half.rows[half.labels == 1]) == list(rows[problem.name])
            others = half.rows[half.labels == 0]
            assert len(set(others)) == len(others) == size
            counts = [sum(n in rows[o] for n in others) for o in rows if o != problem.name]
            assert sum(counts) == size
            assert max(counts) <= -(-size // 3)


def test_the_seed_settles_everything_and_no_global_state_is_touched(lm: LanguageModel) -> None:
    sae = random_sae("abstopk")
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    first, again = (scored(lm, sae, ctx=context_of(seed=5))[0] for _ in range(2))
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert first == again
    assert first != scored(lm, sae, ctx=context_of(seed=6))[0]


def test_an_sae_that_fails_costs_only_itself_and_a_new_one_is_encoded(lm: LanguageModel) -> None:
    task = get_task("sparse_probing", {"datasets": [SENTIMENT], **SIZES}, find_tasks())
    good, narrow, late = random_sae("topk"), random_sae("topk", d_in=64), random_sae("abstopk")
    ctx = context_of(good, narrow)
    prepared = task.prepare(lm, ctx)
    assert task.score(good, prepared, lm, ctx)
    with pytest.raises(RuntimeError, match="128"):
        task.score(narrow, prepared, lm, ctx)
    scores = parted(task, task.score(SplitSAE(late), prepared, lm, ctx))[0]
    assert scores == scored(lm, SplitSAE(late), datasets=[SENTIMENT])[0]


@pytest.mark.parametrize("width", [2, 3])
def test_fewer_latents_than_asked_for(lm: LanguageModel, width: int) -> None:
    sae = random_sae("abstopk", width=width, k=1)
    for scores in scored(lm, sae, SplitSAE(sae)):
        assert all(0 <= value <= 1 for value in scores.values())


def test_latents_that_never_fire_tell_nothing(lm: LanguageModel) -> None:
    sae = random_sae("relu")
    sae.b_enc.data.fill_(-1e6)
    (scores,) = scored(lm, sae)
    assert [scores[name] for name in TOP] == [0.5] * 3


def test_little_is_kept_of_each_sae(lm: LanguageModel) -> None:
    task = get_task("sparse_probing", {"datasets": [BIOGRAPHIES], **SIZES}, find_tasks())
    sae = random_sae("abstopk", width=2048, k=16)
    (probed,) = task.prepare(lm, context_of(sae))
    assert len(probed.texts) == 5 * (40 + 20)
    for columns in probed.columns.values():
        assert columns.values.shape[0] == len(probed.texts)
        assert columns.values.shape[1] <= 5 * 5


@pytest.mark.parametrize("limit", [1, 6])
def test_a_limited_run(lm: LanguageModel, limit: int) -> None:
    sae = random_sae("abstopk")
    ctx = context_of(limit=limit)
    for scores in scored(lm, sae, SplitSAE(sae), ctx=ctx, datasets=None, train_texts=None, test_texts=None):
        assert all(0 <= value <= 1 for value in scores.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ["tinyworld/cities"]}, "there is no labelled data set 'tinyworld/cities'"),
        ({"datasets": ["fancyzhx/ag_news"]}, "the data set fancyzhx/ag_news cannot be read"),
        ({"datasets": []}, "datasets"),
        ({"train_texts": 3}, "train_texts"),
        ({"context": 1}, "context"),
    ],
)
def test_bad_options(lm: LanguageModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scored(lm, random_sae("topk"), **options)


def test_an_empty_text_is_named(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    world = labelled_module._tiny_texts
    monkeypatch.setattr(labelled_module, "_tiny_texts", lambda *args: ("", *world(*args)[1:]))
    with pytest.raises(UserError, match="has no tokens: ''"):
        scored(lm, random_sae("topk"), datasets=[SENTIMENT])
