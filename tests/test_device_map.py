"""Models that are spread by a device map: on this machine over main memory and a disk, with the same bits."""

from pathlib import Path

import pytest
import torch
from small_run import data_of, small_plan, weights_of
from torch import Tensor

from abench import AddDirection, LanguageModel, UserError, steered
from abench.data.computation import computation_of
from abench.lm.devices import computing_device, device_of, places_of, usable_device
from abench.results.store import Store
from abench.runs.opened_model import opened
from abench.runs.runner import run_plan
from abench.tinyworld import MODEL_DIR, World

SPREAD = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "cpu",
    "model.layers.3": "disk",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "cpu",
}
"""Half of the blocks' weights are read from the disk whenever they are needed."""
SITES = ("blocks.1.hook_mlp_out", "blocks.1.hook_resid_post", "blocks.3.hook_attn_out")


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny")


@pytest.fixture(scope="module")
def spread() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", device_map=SPREAD, eos_after_documents=True)


@pytest.fixture(scope="module")
def tokens(lm: LanguageModel) -> Tensor:
    return torch.randint(3, lm.vocabulary, (5, 20), generator=torch.Generator().manual_seed(0))


def test_it_is_spread(spread: LanguageModel, lm: LanguageModel) -> None:
    assert spread.model.model.layers[1].mlp.up_proj.weight.is_meta
    assert not spread.model.model.layers[0].mlp.up_proj.weight.is_meta
    assert places_of(spread.model) == ["cpu", "disk"] and places_of(lm.model) == []
    assert spread.device == torch.device("cpu")
    assert computation_of(spread) == computation_of(lm)


def test_activations_and_logits(lm: LanguageModel, spread: LanguageModel, tokens: Tensor) -> None:
    wanted = lm.residuals(tokens, SITES)
    for site, found in spread.residuals(tokens, SITES).items():
        assert torch.equal(found, wanted[site])
    assert torch.equal(spread.logits(tokens), lm.logits(tokens))


@pytest.mark.parametrize("site", SITES)
def test_passes_that_resume_at_a_site(
    lm: LanguageModel, spread: LanguageModel, tokens: Tensor, site: str
) -> None:
    other = 0.5 * lm.residual(tokens, site)
    assert torch.equal(spread.logits_from(other, tokens, site), lm.logits_from(other, tokens, site))
    last = torch.arange(5) + 10
    found, wanted = (each.next_logits_from(other, tokens, last, site) for each in (spread, lm))
    assert torch.equal(found, wanted)
    # Their own `forward`, by accelerate, moves the input to the block's device.
    assert all("forward" in vars(block) for block in spread.model.model.layers)
    assert torch.equal(spread.logits(tokens), lm.logits(tokens))


def test_gradients(lm: LanguageModel, spread: LanguageModel, tokens: Tensor) -> None:
    found = []
    for each in (lm, spread):
        residual = lm.residual(tokens, SITES[1]).clone().requires_grad_()
        each.next_logits_from(residual, tokens, torch.arange(5), SITES[1]).square().sum().backward()
        found.append(residual.grad)
    assert found[0] is not None and found[1] is not None and torch.equal(found[0], found[1])


def test_steered_replies(lm: LanguageModel, spread: LanguageModel) -> None:
    prompts = [text[:40] for text, _ in zip(World().texts("train"), range(3), strict=False)]
    replies = []
    for each in (lm, spread):
        with steered(each, "blocks.1.hook_resid_post", AddDirection(torch.ones(lm.d_model), 4.0)):
            replies.append(each.generate(prompts, max_new_tokens=8))
    assert replies[0] == replies[1]


def test_a_run_has_the_same_weights_and_scores(spread: LanguageModel, tmp_path: Path) -> None:
    plan = small_plan(variants=("topk",), tasks=("core",), sites=("mlp_out",))
    usual, other = (Store.open(tmp_path / name, create=True) for name in ("usual", "other"))
    run_plan(plan, usual)
    outcome = run_plan(plan, other, lm=spread)
    assert not outcome.failed
    assert weights_of(plan, other) == weights_of(plan, usual)
    assert data_of(plan, other) == data_of(plan, usual)
    record = other.get(plan.cells[0])
    assert record is not None and record.provenance["model_devices"] == ["cpu", "disk"]


def test_auto_takes_the_machine_as_it_is(tmp_path: Path, lm: LanguageModel, tokens: Tensor) -> None:
    assert usable_device("auto") == "auto"
    assert computing_device("auto") == usable_device(None) and computing_device("cpu") == "cpu"
    found = LanguageModel.load(MODEL_DIR, name="tiny", device="auto")
    assert found.device.type == torch.device(usable_device(None)).type
    torch.testing.assert_close(found.logits(tokens).cpu(), lm.logits(tokens), rtol=1e-3, atol=1e-3)
    plan, store = small_plan(variants=("topk",)), Store.open(tmp_path / "results", create=True)
    assert not run_plan(plan, store, device="auto").failed


def test_the_main_device_is_the_first_that_holds_weights() -> None:
    class Placed:
        device = torch.device("cuda:3")

        def __init__(self, *places: int | str) -> None:
            self.hf_device_map = dict(enumerate(places))

    assert device_of(Placed(1, 0, "cpu")) == torch.device("cuda:1")
    assert device_of(Placed("cpu", "cuda:2", "disk")) == torch.device("cuda:2")
    assert device_of(Placed("cpu", "disk")) == device_of(Placed("disk")) == torch.device("cpu")
    assert device_of(Placed(3)) == torch.device("cuda:3")
    assert places_of(Placed(1, 0, "cpu")) == ["cpu", "cuda:0", "cuda:1"]


def test_what_cannot_be_done_is_a_sentence(spread: LanguageModel) -> None:
    for place in ("nonsense", "cuda:99", 99):
        with pytest.raises(UserError, match=r"device '(nonsense|cuda:99)' cannot be used"):
            LanguageModel.load(MODEL_DIR, name="tiny", device_map=SPREAD | {"lm_head": place})
    with pytest.raises(UserError, match="cannot be opened: The device_map provided does not give any device"):
        LanguageModel.load(MODEL_DIR, name="tiny", device_map={"model.layers": "disk"})
    with pytest.raises(UserError, match="some weights of tiny wait on a disk or in main memory"):
        opened(spread, device="cpu")
