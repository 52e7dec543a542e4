"""Absorption against sae-bench's own functions, on the same residual stream, words, seeds and starting point.

sae-bench is run whole from k-sparse probing to its aggregated table. Only two things are put in its way: the
residual streams are handed to it instead of a model, and its probes start at zero as ours do. In float64,
because in float32 its L1 probe lets rounding decide between like latents.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from abench.tasks.absorption import Absorption, Spelled
from abench.tasks.absorption.probe import Probe, Training, train_probe
from abench.tasks.absorption.spelling import LETTERS, SAE_BENCH
from signed import WideSAE, flipped, random_sae
from torch import Tensor

from abench import Context, LanguageModel, SplitSAE
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import MODEL_DIR

SITE, SEED, BATCH, MAX_K = "blocks.1.hook_resid_post", 0, 64, 3
CONTEXT = Context(SITE, EvaluationSpec(limit=700), DataSpec(source="tinyworld", dataset=None), 128)
TASK = Absorption(min_letters=4, min_probe_f1=0.5, max_k=MAX_K, batch_size=BATCH)
Scored = dict[str, float]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@pytest.fixture(scope="module")
def spelled(lm: LanguageModel) -> Spelled:
    return TASK.prepare(lm, CONTEXT)


def ours(sae: Any, spelled: Spelled, lm: LanguageModel) -> tuple[Scored, dict[str, Any]]:
    with torch.no_grad():
        scores, details = TASK.score(sae, spelled, lm, CONTEXT)
    return dict(scores), dict(details)


@contextmanager
def from_zero() -> Iterator[None]:
    """sae-bench's probes start at zero, and its batches are drawn from SEED."""
    from sae_bench.evals.absorption import probing

    class FromZero(probing.LinearProbe):  # type: ignore[name-defined, misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            torch.nn.init.zeros_(self.fc.weight)
            torch.nn.init.zeros_(self.fc.bias)
            torch.manual_seed(SEED)

    usual, probing.LinearProbe = probing.LinearProbe, FromZero
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
            # Undefined scores of letters without words, fits that end early: sae-bench lets them pass.
            warnings.simplefilter("ignore")
            yield
    finally:
        probing.LinearProbe = usual


class HandedOver:
    """The part of a HookedTransformer that sae-bench's calculator calls, answering with known residuals."""

    tokenizer = "any"

    def __init__(self, spelled: Spelled) -> None:
        self._at = {
            word.text: x for word, x in zip(spelled.found.words, spelled.found.residual.double(), strict=True)
        }

    def to_tokens(self, _prompt: str) -> Tensor:
        return torch.zeros(1, 7)

    def run_with_cache(self, prompts: list[str], names_filter: list[str]) -> tuple[None, dict[str, Tensor]]:
        words = [p.rsplit("\n", 1)[-1].removesuffix(" has the first letter:") for p in prompts]
        return None, {names_filter[0]: torch.stack([self._at[word] for word in words])[:, None]}


@dataclass
class Theirs:
    """sae-bench on one SAE: its table of letters."""

    k_sparse: pd.DataFrame
    letters: pd.DataFrame

    def scores(self) -> Scored:
        return {
            "mean_absorption_fraction_score": self.letters["mean_absorption_fraction"].mean(),
            "mean_full_absorption_score": self.letters["full_absorption_rate"].mean(),
            "mean_num_split_features": self.letters["num_split_feats"].mean(),
            "letters": float(len(self.letters)),
        }


def sae_bench(sae: Any, spelled: Spelled, folder: Path) -> Theirs:
    """sae-bench's evaluation of an SAE, from its k-sparse probes to the means over letters."""
    from sae_bench.evals.absorption import feature_absorption as fa
    from sae_bench.evals.absorption import k_sparse_probing as ks
    from sae_bench.evals.absorption.main import _aggregate_results_df

    probe = sae_bench_probe(spelled.probe)
    data = {part: labelled(getattr(spelled, part)) for part in ("train", "test")}
    with from_zero():
        k_probes = ks.train_k_sparse_probes(
            sae,
            data["train"],
            spelled.train.residual.double(),
            ks=range(1, MAX_K + 1),
            batch_size=BATCH,
            precalc_sae_acts=True,
        )
        raw = ks.eval_probe_and_sae_k_sparse_raw_scores(
            sae, probe, k_probes, data["test"], spelled.test.residual.double()
        )
        metadata = ks.sae_k_sparse_metadata(sae, probe, k_probes, "sae", 1)
        metrics = ks.build_metrics_df(raw, metadata, MAX_K)
        ks.add_feature_splits_to_metrics_df(metrics, MAX_K)
        raw.to_parquet(folder / ks.get_sparse_probing_raw_results_filename("sae", 1))
        stats = fa.get_stats_and_likely_false_negative_tokens(metrics, "sae", 1, folder)
        good = metrics[metrics["f1_probe"] > 0.5]["letter"].tolist()
        calculator = fa.FeatureAbsorptionCalculator(
            HandedOver(spelled), [w.text for w in spelled.train.words], max_icl_examples=2,
            base_template=SAE_BENCH.line, word_token_pos=-1,
        )  # fmt: skip
        results = fa.calculate_projection_and_cos_sims(
            calculator, sae, probe, 1, {letter: stats[letter] for letter in good}
        )
    return Theirs(metrics.set_index("letter"), _aggregate_results_df(results).set_index("letter"))


def labelled(words: Any) -> list[tuple[str, int]]:
    return [(word.text, word.letter) for word in words.words]


def sae_bench_probe(probe: Probe) -> Any:
    from sae_bench.evals.absorption.probing import LinearProbe

    theirs = LinearProbe(len(probe.weight), 26).double()
    theirs.fc.weight.data, theirs.fc.bias.data = probe.weight.T.clone(), probe.bias.clone()
    return theirs


def agree(mine: Scored, details: dict[str, Any], theirs: Theirs) -> None:
    for name, value in theirs.scores().items():
        assert mine[name] == pytest.approx(value, abs=1e-4), name
    assert set(details["letters"]) == set(theirs.letters.index)
    for letter, row in theirs.letters.iterrows():
        each = details["letters"][letter]
        assert list(each["latents"]) == list(row["split_feats"]), letter
        assert each["words"] == row["num_probe_true_positives"]
        k = len(row["split_feats"])
        assert each["f1"] == pytest.approx(theirs.k_sparse.loc[letter, f"f1_sparse_sae_{k}"], abs=1e-4)
        assert each["mean_absorption_fraction"] == pytest.approx(row["mean_absorption_fraction"], abs=1e-4)
        assert each["full_absorption_rate"] == pytest.approx(row["full_absorption_rate"], abs=1e-4)


def sae_of(variant: str) -> Any:
    sae = random_sae(variant, width=256, k=16)
    if variant == "jumprelu":
        # About one standard deviation of what the encoder gives.
        name = next(name for name, _ in sae.named_parameters() if "threshold" in name)
        sae.get_parameter(name).data.fill_(torch.tensor(9.0).log() if name.startswith("log") else 9.0)
    return sae.double()


@pytest.mark.parametrize("variant", ["topk", "relu", "jumprelu"])
def test_equals_sae_bench(variant: str, lm: LanguageModel, spelled: Spelled, tmp_path: Path) -> None:
    sae = sae_of(variant)
    mine, details = ours(sae, spelled, lm)
    assert 0 < mine["mean_absorption_fraction_score"] < 1
    agree(mine, details, sae_bench(sae, spelled, tmp_path))


def test_the_split_view_is_sae_bench_on_the_wide_sae(
    lm: LanguageModel, spelled: Spelled, tmp_path: Path
) -> None:
    sae = sae_of("abstopk")
    mine, details = ours(SplitSAE(sae), spelled, lm)
    agree(mine, details, sae_bench(WideSAE(sae), spelled, tmp_path))


def test_sae_bench_takes_a_negative_code_for_silence(
    lm: LanguageModel, spelled: Spelled, tmp_path: Path
) -> None:
    """Its scores of one and the same function change with the signs of latents; ours do not."""
    sae = sae_of("abstopk")
    other = flipped(sae)
    theirs = [sae_bench(each, spelled, tmp_path).scores() for each in (sae, other)]
    assert abs(theirs[0]["mean_full_absorption_score"] - theirs[1]["mean_full_absorption_score"]) > 0.02
    mine = [ours(each, spelled, lm)[0] for each in (sae, other)]
    assert mine[0] == pytest.approx(mine[1], abs=1e-9)


@pytest.mark.parametrize("batch", [4096, 100])
def test_the_residual_probe_is_sae_benchs(batch: int, spelled: Spelled) -> None:
    """From its own random start, with its own order of batches."""
    from sae_bench.evals.absorption.probing import LinearProbe, train_multi_probe

    x, letters = spelled.train.residual.double(), spelled.train.letters
    present = torch.nn.functional.one_hot(letters, 26)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(3)
        theirs = train_multi_probe(
            x, present, batch_size=batch, num_epochs=50, weight_decay=1e-4, show_progress=False, device="cpu"
        )
        torch.manual_seed(3)
        start = LinearProbe(x.shape[1], 26).double()
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    probe = train_probe(
        x, letters, Training(batch, 50), generator,
        start=Probe(start.weights.detach().T, start.biases.detach()),
    )  # fmt: skip
    torch.testing.assert_close(probe.weight.T, theirs.weights.detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(probe.bias, theirs.biases.detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shots", [1, 4])
def test_the_prompt_is_sae_benchs(shots: int) -> None:
    from sae_bench.evals.absorption import prompting

    examples = [" cat", "Dog", "elk", " Fox"][:shots]
    theirs = prompting.create_icl_prompt(
        " Gnu", examples, prompting.VERBOSE_FIRST_LETTER_TEMPLATE, shuffle_examples=False,
        prepend_separator_to_first_example=True,
    )  # fmt: skip
    assert SAE_BENCH.prompt(" Gnu", examples) == theirs.base


def test_the_defaults_are_sae_benchs() -> None:
    from sae_bench.evals.absorption import feature_absorption as fa
    from sae_bench.evals.absorption.eval_config import AbsorptionEvalConfig

    theirs, task = AbsorptionEvalConfig(), Absorption()
    assert (task.max_k, task.f1_jump) == (theirs.max_k_value, theirs.f1_jump_threshold)
    assert (task.l1_decay, task.epochs) == (theirs.k_sparse_probe_l1_decay, theirs.k_sparse_probe_num_epochs)
    hub = SimpleNamespace(data=DataSpec(source="hub"))
    assert tuple(task._demands(hub)) == (  # type: ignore[arg-type]
        theirs.k_sparse_probe_batch_size,
        theirs.min_GT_probe_f1,
        theirs.min_feats_for_eval,
    )
    assert task.absorber_cosine == fa.ABSORPTION_FRACTION_PROBE_COS_THRESHOLD
    assert task.absorbers == fa.ABSORPTION_FRACTION_MAX_ABSORBING_LATENTS
    assert task.projection_share == fa.ABSORPTION_PROBE_PROJECTION_PROPORTION_THRESHOLD
    assert task.full_cosine == fa.FULL_ABSORPTION_PROBE_COS_THRESHOLD
    assert list(LETTERS) == [chr(ord("a") + n) for n in range(26)]
