"""RAVEL against sae-bench's own run over the same files, model and SAEs, with the same seed.

sae-bench 0.6.0 expects layers to return tuples, which they no longer do from transformers 5 on, and finds
layers of Gemma 2 and GPT-NeoX only; an adapter around the layer makes up for both. Otherwise all of it is its
own: reading, tokens, generation, pairs, mask training, scoring.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from abench.tasks.ravel import Ravel
from abench.tasks.ravel.judge import is_right, is_settled
from abench.tasks.ravel.mask import Fit, learn_mask
from abench.tasks.ravel.prompts import HUB_ATTRIBUTES
from ravel_files import ATTRIBUTES, cache, write
from ravel_saes import rotated

from abench import Context, LanguageModel
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import MODEL_DIR

LAYER, SEED = 0, 42
SITE = f"blocks.{LAYER}.hook_resid_post"
SIZES = {"pairs": 60, "batch_size": 12, "entities": 40}
"""84 pairs to learn from and 36 to test on: whole batches, because sae-bench drops the rest."""
TASK = Ravel(attributes=ATTRIBUTES, **SIZES)
CONTEXT = Context(SITE, EvaluationSpec(seed=SEED), DataSpec(source="hub"), context_size=128)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", dtype="float64", eos_after_documents=True)


class TupleLayer:
    """A decoder layer whose hooks are shown outputs as tuples."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def register_forward_hook(self, hook: Callable[..., Any]) -> Any:
        return self._layer.register_forward_hook(lambda m, i, output: hook(m, i, (output,))[0])


@pytest.fixture
def sae_bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """sae-bench's module that runs RAVEL, with layers it can work with."""
    monkeypatch.setenv("JAXTYPING_DISABLE", "1")
    from sae_bench.evals.ravel import main
    from sae_bench.sae_bench_utils import activation_collection

    def layer(model: Any, number: int) -> TupleLayer:
        return TupleLayer(model.get_decoder().layers[number])

    monkeypatch.setattr(activation_collection, "get_module", layer)
    # It collects garbage at every turn, which takes longer than what it computes here.
    monkeypatch.setattr("gc.collect", lambda: 0)
    return main


def config_of(artifacts: Path) -> Any:
    from sae_bench.evals.ravel.eval_config import RAVELEvalConfig

    config = RAVELEvalConfig(model_name=str(MODEL_DIR), random_seed=SEED, artifact_dir=str(artifacts))
    config.entity_attribute_selection = {kind: list(names) for kind, names in ATTRIBUTES.items()}
    config.num_pairs_per_attribute = SIZES["pairs"]
    config.llm_batch_size = SIZES["batch_size"]
    config.top_n_entities = SIZES["entities"]
    return config


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where sae-bench reads its files, and keeps what the model knows of them for its next run."""
    folder = tmp_path_factory.mktemp("artifacts")
    write(folder / "base")
    return folder


@pytest.fixture
def theirs(
    sae_bench: Any, lm: LanguageModel, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any], tuple[dict[str, float], list[torch.Tensor]]]:
    """sae-bench's scores of an SAE, and the masks it learns on the way."""
    masks: list[torch.Tensor] = []
    train = sae_bench.mdbm.train_mdbm

    def keep(*args: Any, **options: Any) -> Any:
        trained = train(*args, **options)
        masks.append(trained.binary_mask.detach() > 0)
        return trained

    monkeypatch.setattr(sae_bench.mdbm, "train_mdbm", keep)

    def run(sae: Any) -> tuple[dict[str, float], list[torch.Tensor]]:
        sae.cfg.hook_layer = LAYER
        state, enabled = random.getstate(), torch.is_grad_enabled()
        with torch.random.fork_rng(devices=[]):
            scores, _ = sae_bench.run_eval_single_sae(
                config_of(artifacts), sae, lm.model, "cpu", str(artifacts)
            )
        random.setstate(state)
        torch.set_grad_enabled(enabled)
        return scores, masks

    return run


@pytest.mark.parametrize(("variant", "k"), [("topk", 64), ("relu", 64), ("jumprelu", 64)])
def test_equals_sae_bench(
    variant: str,
    k: int,
    lm: LanguageModel,
    theirs: Callable[[Any], tuple[dict[str, float], list[torch.Tensor]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sae = rotated(variant, k)
    expected, masks = theirs(sae)
    cache(tmp_path / "hub", monkeypatch)
    with torch.no_grad():
        prepared = TASK.prepare(lm, CONTEXT)
        scores, _ = TASK.score(sae, prepared, lm, CONTEXT)
    assert scores["cause_score"] == pytest.approx(expected["cause_score"], abs=1e-4)
    assert scores["isolation_score"] == pytest.approx(expected["isolation_score"], abs=1e-4)
    assert scores["disentanglement_score"] == pytest.approx(expected["disentangle_score"], abs=1e-4)
    assert 0.15 < expected["cause_score"] < expected["isolation_score"] < 0.95
    fit = Fit(TASK.learning_rate, TASK.epochs, TASK.batch_size)
    for (experiment, _), mask in zip(prepared.experiments, masks, strict=True):
        ours = learn_mask(sae, experiment.train, prepared.bank, lm, SITE, fit)
        assert torch.equal(ours, mask)


def test_defaults_are_sae_bench_s() -> None:
    from sae_bench.evals.ravel.eval_config import RAVELEvalConfig

    config, task = RAVELEvalConfig(), Ravel()
    assert {kind: list(names) for kind, names in HUB_ATTRIBUTES.items()} == config.entity_attribute_selection
    assert task.pairs == config.num_pairs_per_attribute
    assert task.entities == config.top_n_entities
    assert task.train_share == config.train_test_split
    assert task.learning_rate == config.learning_rate
    assert task.epochs == config.num_epochs
    assert task.generated_tokens == config.n_generated_tokens


LABELS = (
    "France",
    "United States",
    "the United Kingdom",
    "South Korea",
    "North America",
    "Mandarin Chinese",
    "English, French",
    "Economics",
    "male",
    "",
)
COMPLETIONS = (
    "France",
    " france, where",
    "Fra",
    'Fra"nce',
    '"France"',
    " the United States of",
    "United States",
    "USA",
    "the United Kingdom",
    " England",
    "Korea",
    "south korea",
    "North Korea",
    "NA",
    "America",
    "the continent of North America",
    "Chinese",
    "Mandarin",
    "mandarin chinese",
    "french",
    "English",
    " economics\\/finance",
    "econ",
    "malevolent",
    "",
    " ",
    '"',
)
TEXTS = ("People in X speak the language", "X is in the country of")


def test_answers_are_judged_as_by_sae_bench() -> None:
    from sae_bench.evals.ravel.validation import evaluate_completion

    differ = {
        (label, completion)
        for text in TEXTS
        for label in LABELS
        for completion in COMPLETIONS
        if is_right(text, label, completion) != evaluate_completion(text, label, completion)
    }
    # There, England is right for the United States too.
    assert differ == {("United States", " England")}


def test_what_is_settled_stays_whatever_follows() -> None:
    settled = 0
    for label in LABELS:
        for completion in COMPLETIONS:
            if not is_settled(label, completion):
                continue
            settled += 1
            for text in TEXTS:
                before = is_right(text, label, completion)
                for more in (" of the", '"', "nce", "s, Spain", "\nQ:"):
                    assert is_right(text, label, completion + more) == before, (label, completion, more)
    assert settled > 80
