"""Unlearning against sae-bench's own functions, and where sae-bench errs, against what is right.

sae-bench's evaluation as a whole runs for two Gemma models only, whose prompts and answer tokens are written
into it; its parts take any residual stream, SAE and rates.
"""

import inspect
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from abench.tasks._shared.choices import TINY, ChoiceQuestion, known
from abench.tasks.unlearning.clamp import Accuracy, KnownBatch, _Firing, clamp, select
from abench.tasks.unlearning.score import Setting, summary
from abench.tasks.unlearning.texts import (
    forget_documents,
    packed_rows,
    questions,
    retain_documents,
)
from signed import flipped, random_sae
from torch import Tensor

from abench import (
    Context,
    LanguageModel,
    TokenRows,
    firing_rates,
    latent_directions,
    ordinary,
    output_gain,
    train,
)
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.tinyworld import MODEL_DIR

SITE = "blocks.0.hook_resid_post"
DATA = DataSpec(source="tinyworld", dataset=None)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@pytest.fixture(scope="module")
def saes(lm: LanguageModel) -> dict[str, Any]:
    """Non-negative SAEs, trained for a moment, so that their latents mean something."""
    rows = TokenRows(lm, DATA, "train", 128)
    x = torch.cat([lm.residual(t, SITE)[ordinary(t, lm)] for t in (rows.batch(16) for _ in range(60))])
    names = ["topk", "relu", "jumprelu"]
    batches = [batch.clone() for batch in x.split(1024)[:-1]]
    found = train(batches * 3, variants=names, k=[8], width=256, steps=3 * len(batches), batch_size=1024)
    return {each.variant: each.sae for each in found}


@pytest.fixture(scope="module")
def known_questions(lm: LanguageModel) -> list[list[ChoiceQuestion]]:
    """Those of the subject to forget, and of one to retain."""
    every = questions(context_of(), ("stars",)).values()
    return [[each[number] for number in known(lm, each, TINY)] for each in every]


def hooked(sae: Any, x: Tensor, latents: Sequence[int], multiplier: float) -> Tensor:
    """sae-bench's intervention on a residual stream [batch, sequence, d]."""
    from sae_bench.evals.unlearning.utils.intervention import anthropic_clamp_resid_SAE_features

    changed = anthropic_clamp_resid_SAE_features(x.clone(), None, sae, list(latents), multiplier)
    return x if changed is None else changed


def ours(sae: Any, x: Tensor, latents: Sequence[int], multiplier: float) -> Tensor:
    """Our intervention on the same, at every position but the first."""
    last = torch.full((len(x),), x.shape[1] - 1)
    tokens = torch.zeros(x.shape[:2], dtype=torch.int64)
    batch = KnownBatch(tokens, last, x, answers=last, forget=last > 0)
    firing = _Firing.of(sae, batch, list(latents), x.device)
    columns = list(range(len(latents)))
    return firing.clamped(torch.arange(len(x)), columns, latent_directions(sae, latents), multiplier)


@pytest.fixture(scope="module")
def x(lm: LanguageModel) -> Tensor:
    return lm.residual(TokenRows(lm, DATA, "held_out", 48).batch(6), SITE).clone()


@pytest.mark.parametrize("variant", ["topk", "relu", "jumprelu"])
@pytest.mark.parametrize("multiplier", [0, 25, 200])
def test_the_intervention_is_sae_benchs(
    variant: str, multiplier: int, saes: dict[str, Any], x: Tensor
) -> None:
    sae = saes[variant]
    latents = sae.encode(x[:, 1:]).clamp_min(0).gt(0).sum((0, 1)).topk(7).indices.tolist()
    theirs = hooked(sae, x, latents, multiplier)
    assert float((theirs - x).abs().max()) > 1
    assert float((ours(sae, x, latents, multiplier) - theirs).abs().max()) < 1e-4 * float(x.abs().max())
    assert torch.equal(ours(sae, x, latents, multiplier)[:, 0], x[:, 0])


def test_sae_benchs_intervention_sees_one_side_of_a_signed_latent_alone(x: Tensor) -> None:
    """`> 0`: what it does to a signed SAE changes when latents are flipped. Ours does not."""
    sae = random_sae("abstopk")
    other = flipped(sae)
    latents = list(range(40))
    assert float((hooked(sae, x, latents, 100) - hooked(other, x, latents, 100)).abs().max()) > 10
    torch.testing.assert_close(ours(sae, x, latents, 100), ours(other, x, latents, 100))
    codes = torch.tensor([3.0, -3.0, 0.0])
    assert clamp(codes, 25).tolist() == [-25, 25, 0]
    assert clamp(codes, 0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm_rescale"])
def test_saes_that_normalise_their_input(normalisation: str, x: Tensor) -> None:
    """sae-bench decodes twice after one encoding; sae-lens forgets the scale after the first, so it fails."""
    from sae_lens import StandardSAE, StandardSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    sae = StandardSAE(StandardSAEConfig(128, 64, normalize_activations=normalisation, metadata=SAEMetadata()))
    generator = torch.Generator().manual_seed(0)
    sae.W_enc.data = torch.randn(128, 64, generator=generator)
    sae.W_dec.data = torch.randn(64, 128, generator=generator)
    sae.requires_grad_(False)
    latents = [3, 9, 20]
    with pytest.raises(AttributeError, match=r"ln_std|x_norm_coeff"):
        hooked(sae, x, latents, 2)

    def decoded(change: bool) -> Tensor:
        codes = sae.encode(x)
        if change:
            # 2 is a length in the residual stream, whatever the token's spread and the decoder row's norm.
            value = -2 / (output_gain(sae, x) * sae.W_dec[latents].norm(dim=-1))
            codes[..., latents] = torch.where(codes[..., latents] > 0, value, codes[..., latents])
        return sae.decode(codes)

    expected = x + decoded(True) - decoded(False)
    expected[:, 0] = x[:, 0]
    torch.testing.assert_close(ours(sae, x, latents, 2), expected, atol=1e-2, rtol=1e-4)


def test_the_latents_are_sae_benchs() -> None:
    from sae_bench.evals.unlearning.utils.feature_activation import get_top_features

    random = np.random.default_rng(0)
    forget, retain = random.random(300) * (random.random(300) > 0.3), random.random(300) * 0.02
    for threshold in (0.001, 0.01, 1.0):
        theirs = get_top_features(forget, retain, retain_threshold=threshold)
        for number in (1, 10, 20, 400):
            found = select(
                torch.from_numpy(forget),
                torch.from_numpy(retain),
                torch.randn(300, 8),
                threshold=threshold,
                number=number,
            )
            assert list(found) == theirs[:number].tolist()


def test_sae_bench_rounds_rates_before_it_compares_them(tmp_path: Path) -> None:
    """It writes rates with six digits: a latent just below the threshold comes back on it, and is dropped."""
    from sae_bench.evals.unlearning.utils.feature_activation import (
        get_top_features,
        load_sparsity_data,
        save_results,
    )

    forget, retain = np.array([0.5, 4e-7]), np.array([0.0009996, 0.0])
    save_results(str(tmp_path), "sae", forget, retain)
    assert len(get_top_features(*load_sparsity_data(str(tmp_path), "sae"), retain_threshold=0.001)) == 0
    rates = [torch.from_numpy(each) for each in (forget, retain)]
    assert select(*rates, torch.randn(2, 8), threshold=0.001, number=10) == (0, 1)


def test_ties_do_not_depend_on_place_or_sign() -> None:
    """sae-bench leaves equals in the order of an unstable sort; at rates of a few tokens most are equal."""
    generator = torch.Generator().manual_seed(0)
    decoder = torch.randn(200, 16, generator=generator)
    forget = torch.randint(0, 4, (200,), generator=generator).double() / 1000
    retain = torch.randint(0, 2, (200,), generator=generator).double() / 1000
    order = torch.randperm(200, generator=generator)
    sign = torch.randint(0, 2, (200, 1), generator=generator) * 2.0 - 1
    plain = select(forget, retain, decoder, threshold=0.01, number=20)
    turned = select(forget[order], retain[order], (decoder * sign)[order], threshold=0.01, number=20)
    assert [int(order[latent]) for latent in turned] == list(plain)
    assert len(set(plain)) == 20
    # Of equal forget rates the lower retain rate comes first.
    rates = [(-float(forget[latent]), float(retain[latent])) for latent in plain]
    assert rates == sorted(rates)


@pytest.mark.parametrize("variant", ["topk", "relu", "jumprelu"])
def test_firing_rates_are_sae_benchs(variant: str, lm: LanguageModel, saes: dict[str, Any]) -> None:
    from sae_bench.sae_bench_utils.activation_collection import get_feature_activation_sparsity

    class Runner:
        """What sae-bench asks of a model here, answered by ours."""

        tokenizer = lm.tokenizer

        def run_with_cache(self, tokens: Tensor, **_options: Any) -> tuple[None, dict[str, Tensor]]:
            return None, {SITE: lm.residual(tokens, SITE)}

    sae = saes[variant]
    rows = packed_rows(
        lm, forget_documents(context_of(sae), None), texts=60, rows=12, context=64, seed=0, what="text"
    )
    # Its type check asks for a HookedTransformer by name; what it computes needs one method of it.
    theirs = inspect.unwrap(get_feature_activation_sparsity)(
        rows, Runner(), sae, batch_size=4, layer=0, hook_name=SITE, mask_bos_pad_eos_tokens=True
    )
    rates = firing_rates(lm, rows, site=SITE, saes=[sae])(sae)
    torch.testing.assert_close(rates.positive + rates.negative, theirs.double(), atol=1e-6, rtol=0)


def context_of(*saes: Any) -> Context:
    return Context(SITE, EvaluationSpec(), DATA, context_size=64, saes=saes)


@pytest.mark.parametrize("seed", range(5))
def test_the_score_is_sae_benchs(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    settings = []
    for threshold in (0.001, 0.01):
        for number in (10, 20):
            for multiplier in (25, 50, 100, 200):
                right = random.random(40) < 0.8, random.random(200) < 0.99, random.random(100) < 0.992
                _write(tmp_path, right, threshold, number, multiplier)
                retain = np.concatenate(right[1:])
                accuracy = Accuracy(float(right[0].mean()), int(retain.sum()) / len(retain))
                settings.append(Setting(threshold, number, multiplier, number, accuracy))
    ablated = [Setting(0.01, 10, 0.0, 10, Accuracy(0.0, 1.0))]
    scores = summary([*settings, *ablated], kept=0.99)
    assert scores["unlearning_score"] == pytest.approx(sae_bench_score(tmp_path), abs=1e-6)
    assert scores["unlearning_score_ablation"] == 1
    assert scores["forget_accuracy_any"] == min(setting.right.forget for setting in settings)


def test_no_setting_that_keeps_the_rest_means_nothing_is_unlearned() -> None:
    spoilt = [Setting(0.01, 10, m, 10, Accuracy(0.1, 0.9)) for m in (0.0, 25.0)]
    assert summary(spoilt, kept=0.99) == {
        "unlearning_score": 0.0,
        "unlearning_score_ablation": 0.0,
        "forget_accuracy_any": 0.1,
        "side_effect_accuracy": 1.0,
    }
    assert summary(spoilt, kept=0.9)["unlearning_score"] == pytest.approx(0.9)


def _write(
    folder: Path, right: Sequence["np.ndarray[Any, Any]"], threshold: float, number: int, multiplier: int
) -> None:
    """One setting's results as sae-bench keeps them."""
    names = ("wmdp-bio", "human_aging", "high_school_geography")
    metrics = {
        name: {
            "mean_correct": float(each.mean()),
            "total_correct": int(each.sum()),
            "is_correct": each.astype(float),
        }
        for name, each in zip(names, right, strict=False)
    }
    file = (
        f"clamp_feature_activation_multiplier{multiplier}_nfeatures{number}_layer0_retainthres{threshold}.pkl"
    )
    (folder / file).write_bytes(pickle.dumps(metrics))


def sae_bench_score(folder: Path) -> float:
    from sae_bench.evals.unlearning.main import get_metrics_df, get_unlearning_scores

    return float(get_unlearning_scores(get_metrics_df(str(folder))))


@pytest.mark.parametrize("variant", ["topk", "relu", "jumprelu"])
def test_the_whole_is_what_sae_benchs_parts_give(
    variant: str,
    lm: LanguageModel,
    saes: dict[str, Any],
    known_questions: list[list[ChoiceQuestion]],
    tmp_path: Path,
) -> None:
    """Every question through the whole model, prompt by prompt, with sae-bench's hook, latents and score."""
    from sae_bench.evals.unlearning.utils.feature_activation import get_top_features

    sae, multipliers = saes[variant], (100, 200)
    forget, retain = (_rates(lm, sae, which) for which in ("forget", "retain"))
    # Rates of trained SAEs differ widely; these leave some 30 and 100 latents in the running.
    thresholds = tuple(round(float(np.sort(retain[forget > 0])[n]), 4) + 1e-4 for n in (30, 100))
    # Where the list is cut there must be no tie, which sae-bench would break by chance.
    numbers = _cuts(forget, [get_top_features(forget, retain, t) for t in thresholds])
    kept = 0.9
    for threshold in thresholds:
        for number in numbers:
            latents = get_top_features(forget, retain, threshold)[:number]
            for multiplier in multipliers:
                right = _asked_again(lm, sae, known_questions, latents.tolist(), multiplier)
                _write(tmp_path, right, threshold, number, multiplier)
    task = get_task(
        "unlearning",
        {
            "retain_thresholds": thresholds,
            "n_features": numbers,
            "multipliers": multipliers,
            "dataset_size": 200,
            "retain_subjects": ("stars",),
            "kept": kept,
        },
        find_tasks(),
    )
    with torch.no_grad():
        scores, details = task.score(sae, task.prepare(lm, context_of(sae)), lm, context_of(sae))  # type: ignore[misc]
    frame = _frame(tmp_path)
    for setting in details["settings"]:
        if setting["multiplier"] > 0:
            key = (setting["retain_threshold"], setting["n_features"], setting["multiplier"])
            assert (setting["forget_accuracy"], setting["side_effect_accuracy"]) == pytest.approx(
                frame[key], abs=1e-6
            )
    assert min(forget for forget, _ in frame.values()) < 1
    best = min([1.0, *(forget for forget, retain in frame.values() if retain >= kept)])
    assert scores["unlearning_score"] == pytest.approx(1 - best, abs=1e-6)


def _frame(folder: Path) -> dict[tuple[float, int, float], tuple[float, float]]:
    from sae_bench.evals.unlearning.main import get_metrics_df

    rows = get_metrics_df(str(folder)).to_dict("records")
    return {
        (row["retain_thres"], row["n_features"], row["multiplier"]): (
            row["wmdp-bio"],
            row["all_side_effects_mcq"],
        )
        for row in rows
    }


def _rates(lm: LanguageModel, sae: Any, which: str) -> "np.ndarray[Any, Any]":
    ctx = context_of(sae)
    documents = forget_documents(ctx, None) if which == "forget" else retain_documents(ctx)
    texts = 200 if which == "forget" else len(documents)
    rows = packed_rows(lm, documents, texts=texts, rows=200, context=64, seed=0, what=which)
    codes = sae.encode(lm.residual(rows, SITE)[ordinary(rows, lm)])
    rates: np.ndarray[Any, Any] = (codes > 0).double().mean(0).numpy()
    return rates


def _cuts(forget: "np.ndarray[Any, Any]", lists: Sequence["np.ndarray[Any, Any]"]) -> tuple[int, ...]:
    """Two lengths up to 30 at which each list ends between latents of different rates."""

    def clean(number: int) -> bool:
        return all(len(x) > number and forget[x[number - 1]] > forget[x[number]] for x in lists)

    found = [number for number in range(1, 30) if clean(number)]
    assert found, "every possible cut is a tie"
    return tuple(sorted({found[len(found) // 2], found[-1]}))


def _asked_again(
    lm: LanguageModel,
    sae: Any,
    subjects: Sequence[Sequence[ChoiceQuestion]],
    latents: Sequence[int],
    multiplier: float,
) -> list["np.ndarray[Any, Any]"]:
    """Which known questions of each subject are still answered right, with a hook on transformers' model."""
    letters = [ids[0] for ids in lm.token_ids(list("abcd"))]
    handle = (
        lm.model.get_decoder()
        .layers[0]
        .register_forward_hook(lambda _module, _inputs, output: hooked(sae, output, latents, multiplier))
    )
    try:
        right = []
        for every in subjects:
            answered = []
            for question in every:
                ids = [lm.bos_id, *lm.token_ids([TINY.write(question)])[0]]
                with torch.no_grad():
                    logits = lm.model(input_ids=torch.tensor([ids])).logits[0, -1, letters]
                answered.append(int(logits.argmax()) == question.answer)
            right.append(np.array(answered))
    finally:
        handle.remove()
    return right
