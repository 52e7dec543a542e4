"""Core against sae-bench's own core evaluation, for SAEs that were saved as sae-lens folders.

Numbers with one definition are equal. Where the definitions differ, both are computed here from the model and
the SAE alone: one is sae-bench's number, the other is abench's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from core_oracle import Metrics, core_of_sae_bench
from imported_saes import Imported, imported
from signed import random_sae
from torch import Tensor

from abench import Context, LanguageModel, TokenRows, ordinary, train
from abench.config import DataSpec, EvaluationSpec
from abench.conformance.rewritten import normalising
from abench.plugins import find_tasks, get_task
from abench.task import checked
from abench.tinyworld import MODEL_DIR

LAYER, CONTEXT, ROWS, BATCH = 2, 48, 24, 8
SITE = f"blocks.{LAYER}.hook_resid_post"
DATA = DataSpec(source="tinyworld", dataset=None)
NAMES = ["topk", "abstopk", "layer_norm", "constant_norm_rescale"]


@dataclass(frozen=True)
class Case:
    """One SAE and what both say of it."""

    sae: Any
    """sae-lens's own object of the folder."""
    theirs: Metrics
    density: Sequence[float]
    """sae-bench's `feature_density` of each latent."""
    ours: Mapping[str, float]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@pytest.fixture(scope="module")
def rows(lm: LanguageModel) -> Tensor:
    return TokenRows(lm, DATA, "held_out", CONTEXT).batch(ROWS)


@pytest.fixture(scope="module")
def folders(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Imported]:
    """Trained SAEs, and random ones that normalise each token."""
    text = TokenRows(lm, DATA, "train", CONTEXT)
    batches = [lm.residual(t, SITE)[ordinary(t, lm)].clone() for t in (text.batch(32) for _ in range(40))]
    trained = train(batches, variants=["topk", "abstopk"], k=[8], width=256, steps=60, batch_size=512)
    objects = {each.variant: each.sae for each in trained}
    objects["layer_norm"] = normalising(random_sae("abstopk", width=640), "layer_norm")
    objects["constant_norm_rescale"] = normalising(random_sae("topk", width=640), "constant_norm_rescale")
    root = tmp_path_factory.mktemp("saelens")
    return {name: imported(objects[name], root / name) for name in NAMES}


@pytest.fixture(scope="module")
def cases(lm: LanguageModel, rows: Tensor, folders: dict[str, Imported]) -> dict[str, Case]:
    # By default abench does not replace outliers; sae-bench has no such rule.
    task = get_task("core", {"outlier_norm": None}, find_tasks())
    spec = EvaluationSpec(tokens=rows.numel(), batch_size=BATCH)
    ctx = Context(SITE, spec, DATA, CONTEXT, saes=tuple(each.ours for each in folders.values()))
    found = {}
    with torch.no_grad():
        prepared = task.prepare(lm, ctx)
        for name, each in folders.items():
            ours = checked(task, task.score(each.ours, prepared, lm, ctx))
            theirs, latents = core_of_sae_bench(lm, each.theirs, rows, layer=LAYER, batch=BATCH)
            found[name] = Case(each.theirs, theirs, latents["feature_density"], ours)
    return found


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    return cases[request.param]


@pytest.fixture(scope="module")
def mask(lm: LanguageModel, rows: Tensor) -> Tensor:
    """The ordinary tokens, [rows, context]: all but BOS and EOS."""
    mask = ordinary(rows, lm)
    # Documents end within rows, so special tokens are not only at their beginning.
    assert int((~mask).sum()) > 2 * ROWS
    return mask


@torch.no_grad()
def log_probs(lm: LanguageModel, rows: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Predictions [rows, context, vocabulary] after a change of the residual stream at the site."""
    layer = lm.model.get_decoder().layers[LAYER]
    handle = layer.register_forward_hook(lambda _module, _inputs, output: change(output))
    try:
        logits: Tensor = lm.model(input_ids=rows).logits
    finally:
        handle.remove()
    return logits.double().log_softmax(-1)


def cross_entropy(predicted: Tensor, rows: Tensor, mask: Tensor) -> float:
    """Mean over the predictions that are made at ordinary tokens."""
    return -float(predicted[:, :-1].gather(-1, rows[:, 1:, None])[..., 0][mask[:, :-1]].mean())


def codes_and_errors(
    lm: LanguageModel, sae: Any, rows: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Residual stream [tokens, d], codes [tokens, latents] and squared errors [tokens] at ordinary tokens."""
    x = lm.residual(rows, SITE)[mask].clone()
    codes = sae.encode(x)
    return x.double(), codes, (x - sae.decode(codes)).double().square().sum(-1)


def test_numbers_with_one_definition_are_sae_benchs(case: Case) -> None:
    performance = case.theirs["model_performance_preservation"]
    assert case.ours["l0"] == pytest.approx(case.theirs["sparsity"]["l0"], abs=1e-4)
    assert case.ours["ce_sae"] == pytest.approx(performance["ce_loss_with_sae"], abs=1e-4)
    assert case.ours["ce_clean"] == pytest.approx(performance["ce_loss_without_sae"], abs=1e-4)


def test_zero_ablation_leaves_special_tokens_and_sae_benchs_does_not(
    case: Case, lm: LanguageModel, rows: Tensor, mask: Tensor
) -> None:
    """Both leave special tokens as they are where the SAE's reconstruction is put in place.

    sae-bench ablates them nevertheless, and so compares interventions at different positions.
    """
    everywhere = cross_entropy(log_probs(lm, rows, torch.zeros_like), rows, mask)
    ordinary_only = cross_entropy(log_probs(lm, rows, lambda x: x * ~mask[..., None]), rows, mask)
    theirs, ours = case.theirs["model_performance_preservation"], case.ours
    assert theirs["ce_loss_with_ablation"] == pytest.approx(everywhere, abs=1e-4)
    assert ours["ce_zero"] == pytest.approx(ordinary_only, abs=1e-4)
    assert abs(everywhere - ordinary_only) > 0.1

    def recovered(zero: float) -> float:
        return (zero - ours["ce_sae"]) / (zero - ours["ce_clean"])

    assert theirs["ce_loss_score"] == pytest.approx(recovered(everywhere), abs=1e-4)
    assert ours["loss_recovered_zero"] == pytest.approx(recovered(ordinary_only), abs=1e-4)


def test_divergence_is_over_predictions_of_tokens_and_sae_benchs_includes_the_last_position(
    case: Case, lm: LanguageModel, rows: Tensor, mask: Tensor
) -> None:
    """The last position of a row has no next token, and so none of the cross-entropies includes it."""

    def replaced(x: Tensor) -> Tensor:
        return torch.where(mask[..., None], case.sae.decode(case.sae.encode(x)), x)

    clean, other = log_probs(lm, rows, lambda x: x), log_probs(lm, rows, replaced)
    divergence = (clean.exp() * (clean - other)).sum(-1)
    theirs = case.theirs["model_behavior_preservation"]["kl_div_with_sae"]
    assert theirs == pytest.approx(float(divergence[mask].mean()), abs=1e-4)
    assert case.ours["kl"] == pytest.approx(float(divergence[:, :-1][mask[:, :-1]].mean()), abs=1e-4)


@torch.no_grad()
def test_sae_bench_divides_the_squared_error_by_the_tokens_twice(
    case: Case, lm: LanguageModel, rows: Tensor, mask: Tensor
) -> None:
    _, _, errors = codes_and_errors(lm, case.sae, rows, mask)
    in_batch = [int(part.sum()) for part in mask.split(BATCH)]
    again = sum(float(part.sum()) / n for part, n in zip(errors.split(in_batch), in_batch, strict=True))
    theirs = case.theirs["reconstruction_quality"]["mse"]
    assert theirs == pytest.approx(again / len(errors), rel=1e-4)
    assert case.ours["mse"] == pytest.approx(float(errors.mean()), rel=1e-4)
    assert case.ours["mse"] > 100 * theirs


@torch.no_grad()
def test_explained_variance_is_a_share_and_sae_benchs_depends_on_the_scale(
    case: Case, lm: LanguageModel, rows: Tensor, mask: Tensor
) -> None:
    """sae-bench subtracts the square of the mean square, in place of the squared mean."""
    x, _, errors = codes_and_errors(lm, case.sae, rows, mask)
    in_batch = [int(part.sum()) for part in mask.split(BATCH)]
    # The mean of the batches' means, as sae-bench takes it.
    squares, residual = (
        sum(float(part.mean()) for part in values.split(in_batch)) / len(in_batch)
        for values in (x.square().sum(-1), errors)
    )
    not_variance = squares - (squares / lm.d_model) ** 2
    theirs = case.theirs["reconstruction_quality"]["explained_variance"]
    assert theirs == pytest.approx(1 - residual / not_variance, abs=1e-4)
    variance = (x - x.mean(0)).square().sum()
    assert case.ours["explained_variance"] == pytest.approx(1 - float(errors.sum() / variance), abs=1e-4)


@torch.no_grad()
def test_latents_with_negative_codes_are_alive_and_in_sae_bench_they_are_not(
    case: Case, lm: LanguageModel, rows: Tensor, mask: Tensor
) -> None:
    _, codes, _ = codes_and_errors(lm, case.sae, rows, mask)
    positive, active = (codes > 0).any(0), (codes != 0).any(0)
    theirs = torch.tensor(case.density) > 0
    assert float(theirs.double().mean()) == pytest.approx(float(positive.double().mean()), abs=1e-4)
    assert 1 - case.ours["dead_fraction"] == pytest.approx(float(active.double().mean()), abs=1e-4)


def test_more_latents_of_a_signed_sae_are_alive_than_sae_bench_counts(cases: dict[str, Case]) -> None:
    """Many latents of the random AbsTopK SAE fire on a few tokens only, all of one sign."""
    signed = cases["layer_norm"]
    counted = sum(density > 0 for density in signed.density) / len(signed.density)
    assert counted + 0.1 < 1 - signed.ours["dead_fraction"]
