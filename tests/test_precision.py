"""Models in bfloat16 and float16: sums, means, norms and losses are in float32 or better."""

from typing import Any

import numpy as np
import pytest
import torch
from abench.tasks.core.substitution import CoreSums, Substitution
from abench.tasks.safety_utility.utility import Utility
from numpy.typing import NDArray
from signed import random_sae
from torch import Tensor

import abench
from abench import Context, LanguageModel, mean_difference, ordinary, pool, reconstruct
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import MODEL_DIR, World

SITE = "blocks.2.hook_resid_post"
HALVES = ("bfloat16", "float16")


@pytest.fixture(scope="module")
def models() -> dict[str, LanguageModel]:
    """The model by precision."""
    return {
        dtype: LanguageModel.load(MODEL_DIR, name="tiny", dtype=dtype, eos_after_documents=True)
        for dtype in ("float32", *HALVES)
    }


def context(tokens: int = 4096, **fields: Any) -> Context:
    data = DataSpec(source="tinyworld", dataset=None)
    return Context(SITE, EvaluationSpec(tokens=tokens, batch_size=8), data, context_size=128, **fields)


def exact(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()


@pytest.mark.parametrize("dtype", HALVES)
def test_losses_and_errors_are_those_of_sums_in_float64(models: dict[str, LanguageModel], dtype: str) -> None:
    lm, sae = models[dtype], random_sae()
    found = Substitution(lm, context(saes=[sae]), None)
    scores = found.of(sae).scores(found.baselines)
    x, codes, losses = [], [], []
    for tokens in found.tokens:
        mask = ordinary(tokens, lm)
        residual = lm.residual(tokens, SITE)
        assert residual.dtype == getattr(torch, dtype)
        x.append(exact(residual[mask]))
        codes.append(exact(sae.decode(sae.encode(residual[mask].float()))))
        logits = exact(lm.logits_from(residual, tokens, SITE)[:, :-1][mask[:, :-1]])
        targets = tokens[:, 1:][mask[:, :-1]].numpy()
        norm = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
        losses.append(norm - logits[np.arange(len(targets)), targets])
    before, after = np.concatenate(x), np.concatenate(codes)
    error = ((before - after) ** 2).sum(1)
    variance = ((before - before.mean(0)) ** 2).sum()
    assert len(before) > 3500
    assert scores["mse"] == pytest.approx(error.mean(), rel=1e-6)
    assert scores["nmse"] == pytest.approx((error / (before**2).sum(1)).mean(), rel=1e-6)
    assert scores["explained_variance"] == pytest.approx(1 - error.sum() / variance, rel=1e-6)
    assert scores["ce_clean"] == pytest.approx(np.concatenate(losses).mean(), rel=1e-6)


def test_sums_do_not_drift_over_many_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    sae = random_sae(d_in=16, width=64)
    x = 100 + torch.randn(64, 16, generator=generator)
    found, mean = reconstruct(sae, x), torch.full((16,), 100.0, dtype=torch.float64)
    once, often = (CoreSums(sae.cfg.d_sae, x.device) for _ in range(2))
    once.add_reconstruction(x, found, mean)
    for _ in range(5000):
        often.add_reconstruction(x, found, mean)
    for name in ("positions", "error", "relative_error", "variance"):
        assert getattr(often, name) == pytest.approx(5000 * getattr(once, name), rel=1e-11)
    assert torch.equal(often.positive, 5000 * once.positive)


@pytest.mark.parametrize("dtype", HALVES)
def test_means_over_texts_are_those_of_float64(models: dict[str, LanguageModel], dtype: str) -> None:
    lm, sae = models[dtype], random_sae()
    texts = [text for text, _ in zip(World().texts("validation"), range(12), strict=False)]
    pooled = pool(lm, texts, site=SITE, saes=[sae], context=128)
    assert pooled.residual.dtype == torch.float32
    single = [torch.tensor(lm.packed(lm.token_ids([text])[0])[:128])[None] for text in texts]
    rows = [lm.residual(row, SITE)[ordinary(row, lm)] for row in single]
    wanted = np.stack([exact(row).mean(0) for row in rows])
    # A single row can be rounded in another way than a padded one, in the precision of the model.
    coarse = 2 * torch.finfo(getattr(torch, dtype)).eps * np.abs(wanted).max()
    np.testing.assert_allclose(exact(pooled.residual), wanted, atol=coarse)
    assert pooled.codes(sae).positive.dtype == np.float32


@pytest.mark.parametrize("dtype", HALVES)
def test_directions_and_log_probabilities(models: dict[str, LanguageModel], dtype: str) -> None:
    lm = models[dtype]
    texts = [text[:60] for text, _ in zip(World().texts("train"), range(8), strict=False)]
    found, usual = (
        mean_difference(each, texts[:4], texts[4:], SITE, pooling="mean") for each in (lm, models["float32"])
    )
    assert found.direction.dtype == torch.float32
    assert float(found.direction.norm()) == pytest.approx(1, abs=1e-6)
    assert float(found.direction @ usual.direction) > 0.99
    assert found.activation_norm == pytest.approx(usual.activation_norm, rel=0.02)
    tokens = torch.tensor(lm.token_ids([texts[0]]))
    logits = lm.logits(tokens)
    wanted = logits.double().log_softmax(-1)[0, :-1].gather(-1, tokens[0, 1:, None])[:, 0]
    assert lm.log_probs(tokens, logits).dtype == torch.float32
    torch.testing.assert_close(lm.log_probs(tokens, logits)[0].double(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", HALVES)
def test_lm_eval_compares_choices_in_float32(models: dict[str, LanguageModel], dtype: str) -> None:
    lm = models[dtype]
    wrapped = Utility(lm, context(), "test", 8)._lm_eval
    prompt, choices = lm.token_ids(["the question is : the answer"])[0], [3, 4, 5, 6]
    asked = [(("", ""), prompt, [choice]) for choice in choices]
    found = [score for score, _ in wrapped._loglikelihood_tokens(asked, disable_tqdm=True)]
    wanted = lm.logits(torch.tensor([prompt]))[0, -1].double().log_softmax(-1)[choices]
    np.testing.assert_allclose(found, exact(wanted), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALVES)
def test_scores_are_near_those_of_float32(models: dict[str, LanguageModel], dtype: str) -> None:
    sae = random_sae()
    options = {"evaluation": {"limit": 60, "tokens": 4096}, "context": 128, "site": SITE}
    frames = []
    for each in ("float32", dtype):
        lm = models[each]
        scored = abench.evaluate(
            {"sae": sae}, model=lm, tasks=("core", "sparse_probing", "scr", "tpp"), device="cpu", **options
        )
        assert not scored.failed
        frames.append(scored.data().set_index(["task", "view", "metric"])["value"])
    usual, found = frames
    assert usual.index.equals(found.index) and len(usual) > 20
    shares = usual.abs() <= 1
    assert float((found - usual).abs()[shares].median()) < 0.02
    losses = usual["core", "native"]
    assert losses["ce_clean"] == pytest.approx(found["core", "native"]["ce_clean"], rel=0.02)
