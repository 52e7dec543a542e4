"""The core task against brute force, closed forms and planted truth, on the model that ships with abench."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from abench import Context, LanguageModel, Skip, TokenRows, ordinary, train
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.task import checked
from abench.tinyworld import MODEL_DIR

SITE = "blocks.1.hook_resid_post"
DATA = DataSpec(source="tinyworld", dataset=None)
CONTEXT = Context(
    site=SITE, evaluation=EvaluationSpec(tokens=24 * 48, batch_size=5), data=DATA, context_size=48
)
Score = Callable[[Any], dict[str, float]]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@pytest.fixture(scope="module")
def tokens(lm: LanguageModel) -> Tensor:
    return TokenRows(lm, DATA, "held_out", 48).batch(24)


@pytest.fixture(scope="module")
def x(lm: LanguageModel, tokens: Tensor) -> Tensor:
    return lm.residual(tokens, SITE)[ordinary(tokens, lm)].clone()


@pytest.fixture(scope="module")
def score(lm: LanguageModel) -> Score:
    task = get_task("core", {}, find_tasks())
    with torch.no_grad():
        prepared = task.prepare(lm, CONTEXT)

    def of(sae: Any) -> dict[str, float]:
        with torch.no_grad():
            return checked(task, task.score(sae, prepared, lm, CONTEXT))

    return of


@pytest.fixture(scope="module")
def trained(lm: LanguageModel) -> dict[str, Any]:
    rows = TokenRows(lm, DATA, "train", 48)
    batches = [lm.residual(t, SITE)[ordinary(t, lm)] for t in (rows.batch(32) for _ in range(50))]
    names = ["abstopk", "topk"]
    results = train([b.clone() for b in batches], variants=names, k=[8], width=300, steps=120, batch_size=512)
    return {result.variant: result.sae for result in results}


def standard_sae(
    w_enc: Tensor, w_dec: Tensor, *, b_enc: Tensor | None = None, b_dec: Tensor | None = None
) -> Any:
    """A ReLU SAE with given weights; w_enc [d_in, width], w_dec [width, d_in]."""
    from sae_lens import StandardSAE, StandardSAEConfig

    sae = StandardSAE(
        StandardSAEConfig(d_in=w_dec.shape[1], d_sae=w_dec.shape[0], apply_b_dec_to_input=False)
    )
    sae.W_enc.data, sae.W_dec.data = w_enc.clone(), w_dec.clone()
    if b_enc is not None:
        sae.b_enc.data = b_enc.clone()
    if b_dec is not None:
        sae.b_dec.data = b_dec.clone()
    return sae.requires_grad_(False)


def exact_sae(d: int) -> Any:
    """Reconstructs everything: one latent for each direction of each coordinate."""
    eye = torch.eye(d)
    return standard_sae(torch.cat([eye, -eye], 1), torch.cat([eye, -eye], 0))


def constant_sae(value: Tensor) -> Any:
    """Always answers `value`, whatever it is given; its one latent always fires."""
    d = len(value)
    return standard_sae(torch.zeros(d, 1), value[None].clone(), b_enc=torch.ones(1))


def brute_force(lm: LanguageModel, tokens: Tensor, sae: Any) -> dict[str, float]:
    """Row by row, with transformers' own forward and a hook; sums in plain Python."""
    layer = lm.model.get_decoder().layers[1]
    mask = (tokens != lm.tokenizer.bos_token_id) & (tokens != lm.tokenizer.eos_token_id)
    residual = torch.cat([lm.residual(row[None], SITE) for row in tokens])
    mean = residual[mask].double().mean(0)

    def log_probs(row: Tensor, index: int, replace: Callable[[Tensor], Tensor]) -> Tensor:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
            patched = output.clone()
            patched[0, mask[index]] = replace(output[0, mask[index]])
            return patched

        handle = layer.register_forward_hook(hook)
        with torch.no_grad():
            logits = lm.model(input_ids=row[None]).logits[0].double()
        handle.remove()
        return logits.log_softmax(-1)

    sums = dict.fromkeys(("clean", "sae", "zero", "mean", "kl"), 0.0)
    count = 0
    for index, row in enumerate(tokens):
        each = {
            "clean": log_probs(row, index, lambda r: r),
            "sae": log_probs(row, index, lambda r: sae.decode(sae.encode(r))),
            "zero": log_probs(row, index, torch.zeros_like),
            "mean": log_probs(row, index, lambda r: mean.float().expand_as(r)),
        }
        for position in range(len(row) - 1):
            if not mask[index, position]:
                continue
            count += 1
            for name, values in each.items():
                sums[name] -= float(values[position, row[position + 1]])
            sums["kl"] += float(
                torch.nn.functional.kl_div(
                    each["sae"][position], each["clean"][position], log_target=True, reduction="sum"
                )
            )
    ce = {name: total / count for name, total in sums.items()}
    inputs = residual[mask]
    with torch.no_grad():
        codes = sae.encode(inputs)
        error = (inputs - sae.decode(codes)).double().square().sum(-1)
    return {
        "ce_clean": ce["clean"],
        "ce_sae": ce["sae"],
        "ce_zero": ce["zero"],
        "ce_mean": ce["mean"],
        "kl": ce["kl"],
        "loss_recovered_zero": (ce["zero"] - ce["sae"]) / (ce["zero"] - ce["clean"]),
        "loss_recovered_mean": (ce["mean"] - ce["sae"]) / (ce["mean"] - ce["clean"]),
        "mse": float(error.mean()),
        "nmse": float((error / inputs.double().square().sum(-1)).mean()),
        "explained_variance": 1 - float(error.sum() / (inputs.double() - mean).square().sum()),
        "l0": float((codes != 0).sum(-1).double().mean()),
    }


@pytest.mark.parametrize("variant", ["abstopk", "topk"])
def test_equals_brute_force(
    variant: str, lm: LanguageModel, tokens: Tensor, trained: dict[str, Any], score: Score
) -> None:
    ours, theirs = score(trained[variant]), brute_force(lm, tokens, trained[variant])
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_an_exact_reconstruction_loses_nothing(lm: LanguageModel, score: Score) -> None:
    scores = score(exact_sae(lm.d_model))
    assert scores["nmse"] < 1e-10
    assert scores["explained_variance"] == pytest.approx(1, abs=1e-10)
    assert scores["loss_recovered_zero"] == pytest.approx(1, abs=1e-5)
    assert scores["ce_sae"] == pytest.approx(scores["ce_clean"], abs=1e-5)
    assert scores["kl"] == pytest.approx(0, abs=1e-6)
    assert scores["antipodal_fraction"] == 1
    assert scores["dead_fraction"] == 0


def test_answering_the_mean_is_mean_ablation(x: Tensor, score: Score) -> None:
    scores = score(constant_sae(x.double().mean(0).float()))
    assert scores["explained_variance"] == pytest.approx(0, abs=1e-6)
    assert scores["loss_recovered_mean"] == pytest.approx(0, abs=1e-5)
    assert scores["ce_sae"] == pytest.approx(scores["ce_mean"], rel=1e-5)


def test_answering_almost_nothing_is_zero_ablation(lm: LanguageModel, score: Score) -> None:
    scores = score(constant_sae(torch.full((lm.d_model,), 1e-30)))
    assert scores["loss_recovered_zero"] == pytest.approx(0, abs=1e-5)
    assert scores["nmse"] == pytest.approx(1, abs=1e-6)


def test_flipping_signs_changes_nothing(trained: dict[str, Any], score: Score) -> None:
    from copy import deepcopy

    sae = trained["abstopk"]
    flipped = deepcopy(sae)
    signs = torch.randint(0, 2, (sae.cfg.d_sae,), generator=torch.Generator().manual_seed(1)) * 2.0 - 1
    flipped.W_enc.data *= signs
    flipped.b_enc.data *= signs
    flipped.W_dec.data *= signs[:, None]
    before, after = score(sae), score(flipped)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name] == pytest.approx(value, abs=1e-6), name


def test_signed_latents_are_two_sided_and_others_are_not(trained: dict[str, Any], score: Score) -> None:
    assert score(trained["topk"])["two_sided_fraction"] == 0
    assert score(trained["abstopk"])["two_sided_fraction"] > 0.1


def test_use_of_latents_is_counted(x: Tensor, score: Score) -> None:
    """Ten latents with planted firings: some dead, some on both sides, some with an opposite partner."""
    from sae_lens import TrainingSAE  # noqa: F401 - registers the architectures
    from sae_lens.saes.abstopk_sae import AbsTopKSAE, AbsTopKSAEConfig

    d = x.shape[1]
    directions = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0))).Q[:10].clone()
    directions[1] = -0.8 * directions[0] + 0.6 * directions[1]  # cosine −0.8 with latent 0
    sae = AbsTopKSAE(AbsTopKSAEConfig(d_in=d, d_sae=10, k=10, apply_b_dec_to_input=False)).requires_grad_(
        False
    )
    sae.W_dec.data = directions
    sae.W_enc.data = torch.zeros(d, 10)
    centred = x - x.mean(0)
    axis = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    projections = x @ axis
    # Latents 0-5 fire always, on one side; 6 on 3 % the other way, 7 on 20 %; 8 and 9 never.
    sae.b_enc.data[:6] = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    for latent, share in ((6, 0.03), (7, 0.2)):
        sae.W_enc.data[:, latent] = axis
        sae.b_enc.data[latent] = -projections.quantile(share)
    directions[3] = 0.8 * directions[7] + 0.6 * directions[3]  # with 7's second pole: cosine −0.8
    directions[5] = 0.8 * directions[4] + 0.6 * directions[5]  # 4 fires at −1, so its pole is −d: cosine −0.8
    sae.W_dec.data = directions
    scores = score(sae)
    assert scores["dead_fraction"] == pytest.approx(0.2)
    assert scores["two_sided_fraction"] == pytest.approx(1 / 8)
    assert scores["antipodal_fraction"] == pytest.approx(6 / 8)  # 0-1, 3-7, 4-5; not 2 and 6
    assert scores["l0"] == pytest.approx(8)


def test_an_sae_that_never_fires_is_an_error(lm: LanguageModel, score: Score) -> None:
    silent = standard_sae(torch.zeros(lm.d_model, 3), torch.ones(3, lm.d_model), b_enc=-torch.ones(3))
    with pytest.raises(Skip, match="no latent fires"):
        score(silent)


def test_saes_of_one_pass_get_what_each_gets_alone(
    lm: LanguageModel, trained: dict[str, Any], score: Score
) -> None:
    """And one that breaks the pass breaks it for itself."""
    task = get_task("core", {}, find_tasks())
    narrow = exact_sae(lm.d_model - 1)
    saes = (trained["abstopk"], narrow, trained["topk"])
    with torch.no_grad():
        prepared = task.prepare(lm, replace(CONTEXT, saes=saes))
        for sae in (saes[0], saes[2]):
            assert checked(task, task.score(sae, prepared, lm, CONTEXT)) == score(sae)
        with pytest.raises(RuntimeError, match="must match"):
            task.score(narrow, prepared, lm, CONTEXT)


def test_a_limit_cuts_the_text(lm: LanguageModel) -> None:
    task = get_task("core", {}, find_tasks())
    limited = Context(
        site=SITE, evaluation=EvaluationSpec(tokens=24 * 48, limit=3), data=DATA, context_size=48
    )
    assert sum(map(len, task.prepare(lm, limited).tokens)) == 3


def test_outlying_positions_stay_clean(lm: LanguageModel) -> None:
    prepared = get_task("core", {"outlier_norm": 1.2}, find_tasks()).prepare(lm, CONTEXT)
    every = get_task("core", {"outlier_norm": None}, find_tasks()).prepare(lm, CONTEXT)
    assert 0 < sum(int(m.sum()) for m in prepared.masks) < sum(int(m.sum()) for m in every.masks)


class _Altered(LanguageModel):
    """The model with something else in place of its residual stream at SITE, wherever it is read."""

    alter: Callable[[Tensor], Tensor]

    def residuals(self, tokens: Tensor, sites: Any) -> dict[str, Tensor]:
        found = dict(super().residuals(tokens, sites))
        return found | {SITE: self.alter(found[SITE])}


def _altered(lm: LanguageModel, alter: Callable[[Tensor], Tensor]) -> LanguageModel:
    other = _Altered(lm.model, lm.tokenizer, name=lm.name, eos_after_documents=lm.eos_after_documents)
    other.alter = alter
    return other


@torch.no_grad()
def test_positions_without_a_norm_have_no_relative_error(lm: LanguageModel, trained: dict[str, Any]) -> None:
    """All others count as before."""

    def without_tenths(residual: Tensor) -> Tensor:
        residual = residual.clone()
        residual[:, 10] = 0
        return residual

    task, sae = get_task("core", {}, find_tasks()), trained["abstopk"]
    altered = _altered(lm, without_tenths)
    prepared = task.prepare(altered, CONTEXT)
    found = checked(task, task.score(sae, prepared, altered, CONTEXT))
    pairs = zip(prepared.tokens, prepared.masks, strict=True)
    x = torch.cat([without_tenths(lm.residual(rows, SITE))[mask] for rows, mask in pairs])
    some = x[x.any(-1)]
    assert 0 < len(some) < len(x)
    error = (some - sae.decode(sae.encode(some))).double().square().sum(-1)
    assert found["nmse"] == pytest.approx(float((error / some.double().square().sum(-1)).mean()), rel=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_constant_residual_stream_is_skipped(lm: LanguageModel, value: float) -> None:
    task = get_task("core", {}, find_tasks())
    with pytest.raises(Skip, match=r"the same at all .* positions .* no variance to explain"):
        task.prepare(_altered(lm, lambda residual: torch.full_like(residual, value)), CONTEXT)


@torch.no_grad()
def test_a_model_that_predicts_without_the_residual_stream_is_skipped(lm: LanguageModel) -> None:
    """With an unembedding of zeros every token is as likely whatever stands at the site."""
    from copy import deepcopy

    model = deepcopy(lm.model)
    output = model.get_output_embeddings()
    output.weight = torch.nn.Parameter(torch.zeros_like(output.weight))
    deaf = LanguageModel(model, lm.tokenizer, name=lm.name, eos_after_documents=lm.eos_after_documents)
    with pytest.raises(Skip, match=r"to 0 leaves the model's cross-entropy at .* no loss to recover"):
        get_task("core", {}, find_tasks()).prepare(deaf, CONTEXT)


def test_a_context_without_predictions_is_skipped(lm: LanguageModel) -> None:
    """After BOS there is one token, and nothing that it could predict."""
    with torch.no_grad(), pytest.raises(Skip, match="both scored at the site and followed by another"):
        get_task("core", {}, find_tasks()).prepare(lm, replace(CONTEXT, context_size=2))


def test_outliers_alone_are_skipped(lm: LanguageModel) -> None:
    task = get_task("core", {"outlier_norm": 0.01}, find_tasks())
    with (
        torch.no_grad(),
        pytest.raises(Skip, match=r"all positions .* are outliers at .*: raise outlier_norm"),
    ):
        task.prepare(lm, CONTEXT)


def test_logits_in_pieces_give_the_same_scores(
    lm: LanguageModel, trained: dict[str, Any], score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {name: score(sae) for name, sae in trained.items()}
    # Room for the logits of two rows, so a batch of five rows takes three passes.
    monkeypatch.setattr("abench.lm.models._LOGITS_AT_ONCE", {"cpu": 2 * 48 * lm.vocabulary})
    rows: list[int] = []
    original = LanguageModel._logits

    def seen(self: LanguageModel, tokens: Tensor) -> Tensor:
        rows.append(len(tokens))
        return original(self, tokens)

    monkeypatch.setattr(LanguageModel, "_logits", seen)
    task = get_task("core", {}, find_tasks())
    context = replace(CONTEXT, saes=tuple(trained.values()))
    with torch.no_grad():
        prepared = task.prepare(lm, context)
        pieces = {name: task.score(sae, prepared, lm, context) for name, sae in trained.items()}
    assert set(rows) == {1, 2}
    for name, scores in pieces.items():
        assert scores == pytest.approx(whole[name], rel=1e-5, abs=1e-7)


def test_log_probabilities_need_no_copy_of_all_logits(lm: LanguageModel, tokens: Tensor) -> None:
    logits = lm.logits(tokens)
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
    )
    torch.testing.assert_close(lm.log_probs(tokens, logits), -expected.reshape(len(tokens), -1))
