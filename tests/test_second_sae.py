"""What a further SAE costs: every token is encoded once, and shared passes are not repeated."""

from typing import Any

import pytest
import torch
from signed import random_sae
from torch import Tensor

from abench import Context, LanguageModel, firing_rates, pool, reconstruct
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.tinyworld import MODEL_DIR

SITE = "blocks.2.hook_resid_post"


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def counted(sae: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows with which a method of this SAE is called, call by call."""
    rows: list[int] = []
    original = getattr(sae, method)

    def call(x: Tensor) -> Any:
        rows.append(len(x))
        return original(x)

    monkeypatch.setattr(sae, method, call)
    return rows


def activations(tokens: int) -> Tensor:
    return torch.randn(tokens, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("variant", ["topk", "abstopk", "signedtopk"])
def test_an_sae_with_few_active_latents_encodes_every_token_once(
    variant: str, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = random_sae(variant, width=1024, k=8)
    texts = ["The nurse lives in a town by the sea.", "He wrote a letter."]
    lengths = list(map(len, lm.token_ids(texts)))
    rows = counted(sae, "process_sae_in", monkeypatch)
    reconstruct(sae, activations(100))
    pool(lm, texts, site=SITE, saes=[sae], context=64)
    firing_rates(lm, torch.tensor(lm.token_ids(texts[:1])), site=SITE, saes=[sae])
    assert sum(rows) == 100 + sum(lengths) + lengths[0]


def test_an_sae_that_may_have_many_active_latents_is_tried_on_a_few_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sae = random_sae("topk", width=1024, k=100)
    rows = counted(sae, "process_sae_in", monkeypatch)
    reconstruct(sae, activations(100))
    assert sum(rows) == 32 + 100


def test_scr_checks_an_sae_once_for_both_directions_of_a_pair(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = get_task("scr", {"datasets": ["tinyworld/biographies"], "train": 100, "test": 50}, find_tasks())
    sae = random_sae("topk", width=256, k=8)
    data = DataSpec(source="tinyworld", dataset=None)
    ctx = Context(SITE, EvaluationSpec(), data, 128, saes=(sae,))
    with torch.no_grad():
        prepared = task.prepare(lm, ctx)
        checks = counted(sae, "decode", monkeypatch)
        task.score(sae, prepared, lm, ctx)
    with_gaps = [pair for pair in prepared.values() if pair.gaps]
    assert any(len(pair.gaps) == 2 for pair in with_gaps)
    assert len(checks) == 2 * len(with_gaps)  # with all latents, and with half of them
