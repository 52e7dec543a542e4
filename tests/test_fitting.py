"""Forward passes that run out of memory: halved, with the same bits on the CPU, and written to the record."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from abench.tasks.safety_utility.utility import Utility
from command import Abench
from short_memory import on_cpu, on_gpu, short_of_memory
from small_run import data_of, small_plan, weights_of
from store_files import cell_file
from torch import Tensor

from abench import AddDirection, Context, LanguageModel, UserError, steered
from abench.config import DataSpec, EvaluationSpec
from abench.data.activation_cache import ActivationCache, CachedRows
from abench.data.readers import computed_rows
from abench.errors import MemoryShortageError, is_out_of_memory, outside_cause, requested_memory
from abench.lm.fitting import FittingPasses
from abench.results.store import Store
from abench.runs.runner import run_plan
from abench.tinyworld import MODEL_DIR, World

AFTER, INSIDE = "blocks.2.hook_resid_post", "blocks.2.hook_mlp_out"
ROWS, LENGTH = 13, 24


@pytest.fixture
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def some_tokens(lm: LanguageModel) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, lm.vocabulary, (ROWS, LENGTH), generator=generator)


def both_sites(lm: LanguageModel) -> list[Tensor]:
    return list(lm.residuals(some_tokens(lm), [INSIDE, AFTER]).values())


def logits(lm: LanguageModel) -> list[Tensor]:
    return [lm.logits(some_tokens(lm))]


def resumed(lm: LanguageModel) -> list[Tensor]:
    tokens = some_tokens(lm)
    read = lm.residuals(tokens, [INSIDE, AFTER])
    return [lm.logits_from(0.5 * read[site], tokens, site) for site in (AFTER, INSIDE)]


def next_tokens(lm: LanguageModel) -> list[Tensor]:
    tokens, last = some_tokens(lm), torch.arange(ROWS)
    return [lm.next_logits_from(lm.residual(tokens, site), tokens, last, site) for site in (AFTER, INSIDE)]


def with_steering(lm: LanguageModel) -> list[Tensor]:
    with steered(lm, AFTER, AddDirection(torch.arange(1.0, 1 + lm.d_model), 3.0)):
        return both_sites(lm) + logits(lm)


@pytest.mark.parametrize("compute", [both_sites, logits, resumed, with_steering])
@pytest.mark.parametrize("fail", [on_gpu, on_cpu])
def test_passes_in_parts_have_the_bits_of_the_whole(
    lm: LanguageModel, compute: Callable[[LanguageModel], list[Tensor]], fail: Callable[[], None]
) -> None:
    wanted = compute(lm)
    with short_of_memory(lm, 3, fail) as failed:
        found = compute(lm)
    assert {13, 6} <= set(failed)  # 3 fitted
    assert len(found) == len(wanted)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_logits_of_next_tokens_in_parts_are_those_of_the_whole_up_to_rounding(lm: LanguageModel) -> None:
    """One position of each row is left at the end; how products of so few are rounded depends on them."""
    wanted = next_tokens(lm)
    with short_of_memory(lm, 3) as failed:
        found = next_tokens(lm)
    assert {13, 6} <= set(failed)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=4e-6 * float(other.abs().max()))


def test_replies_in_parts_are_those_of_the_whole(lm: LanguageModel) -> None:
    # Of different lengths, so that rows of a batch are padded.
    prompts = [
        text[: 20 + 7 * number] for number, text in zip(range(11), World().texts("train"), strict=False)
    ]
    wanted = lm.generate(prompts, max_new_tokens=12)
    counts: list[int] = []
    with short_of_memory(lm, 2) as failed:
        assert lm.generate(prompts, max_new_tokens=12, done=counts.append) == wanted
    assert failed == [11, 5] and counts == [11]


def test_what_memory_holds_is_found_once_for_rows_of_any_length(lm: LanguageModel) -> None:
    tokens = some_tokens(lm)
    with short_of_memory(lm, 100, size=Tensor.numel) as failed:
        lm.logits(tokens)
        assert failed == [13 * LENGTH, 6 * LENGTH]  # 3 rows of 24 tokens fit
        lm.logits(tokens)
        lm.logits(tokens[:, :12])
        assert len(failed) == 2
        lm.fitting.begin()
        lm.logits(tokens[:, :12])
    assert lm.fitting.used() == {"logits": {"rows": 6, "tokens": 12, "most_tokens": 3 * LENGTH}}
    # Another kind of pass needs another amount of memory.
    assert not lm.fitting.in_one("logits", ROWS, LENGTH)
    assert lm.fitting.in_one("activations", ROWS, LENGTH)


def test_without_a_shortage_there_is_one_pass(lm: LanguageModel) -> None:
    lm.fitting.begin()
    with short_of_memory(lm, ROWS) as failed:
        logits(lm)
    assert not failed
    assert lm.fitting.used() == {"logits": {"rows": ROWS, "tokens": LENGTH}}


def test_too_little_for_one_row_is_a_sentence(lm: LanguageModel) -> None:
    with short_of_memory(lm, 0), pytest.raises(MemoryShortageError) as raised:
        logits(lm)
    assert isinstance(raised.value, UserError)
    assert str(raised.value) == (
        "there is not enough memory (torch tried to allocate 2.50 GiB) for a forward pass of tiny over a "
        "single row of 24 tokens (logits): use a shorter context, dtype bfloat16, fewer or narrower SAEs at "
        "a time, or a device with more memory (--device auto spreads the model over all GPUs)"
    )


def test_other_errors_are_not_taken_for_a_lack_of_memory(lm: LanguageModel) -> None:
    def fail() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with short_of_memory(lm, 3, fail) as failed, pytest.raises(RuntimeError, match="mat1 and mat2"):
        logits(lm)
    assert failed == [ROWS]


def test_tensors_of_a_failed_pass_are_freed_before_the_next(lm: LanguageModel) -> None:
    left: list[Any] = []
    alive: list[int] = []

    def compute(rows: slice) -> int:
        alive.append(sum(each() is not None for each in left))
        taken = torch.zeros(10)
        left.append(weakref.ref(taken))
        if rows.stop - rows.start > 1:
            on_gpu()
        return len(taken)

    gc.disable()
    try:
        FittingPasses("a model").parts("logits", (4, 8), compute)
    finally:
        gc.enable()
    assert alive == [0] * 6  # 4, 2 and four times 1


def test_gradients_are_those_of_the_whole_batch(lm: LanguageModel) -> None:
    """What gradients need of all rows is kept anyway, so parts would not need less memory."""
    tokens = some_tokens(lm)
    residual = lm.residual(tokens, AFTER).clone().requires_grad_()
    with short_of_memory(lm, 3) as failed, pytest.raises(torch.OutOfMemoryError):
        lm.next_logits_from(residual, tokens, torch.arange(ROWS), AFTER)
    assert failed == [ROWS]


@pytest.mark.parametrize(
    "error, amount",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"), "2.50 GiB"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3145728 bytes."),
            "3.0 MiB",
        ),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1048576 bytes."),
            "1.0 MiB",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), None),
        (MemoryError(), None),
        (torch.OutOfMemoryError("no message that is known"), None),
    ],
)
def test_all_ways_in_which_memory_runs_out(error: BaseException, amount: str | None) -> None:
    assert is_out_of_memory(error)
    assert requested_memory(error) == (amount and f"torch tried to allocate {amount}")
    said = f" (torch tried to allocate {amount})" if amount else ""
    assert outside_cause(error) == f"there is not enough memory{said}"
    assert not is_out_of_memory(RuntimeError("expected scalar type Float but found Half"))


def test_a_run_that_is_short_of_memory_has_the_same_weights_scores_and_keys(
    lm: LanguageModel, tmp_path: Path, abench: Abench
) -> None:
    plan = small_plan(variants=("abstopk", "topk"), tasks=("core", "sparse_probing"))
    usual, short = (Store.open(tmp_path / name, create=True) for name in ("usual", "short"))
    run_plan(plan, usual)
    with short_of_memory(lm, 2) as failed:
        outcome = run_plan(plan, short, lm=lm)
    assert not outcome.failed and failed
    assert weights_of(plan, short) == weights_of(plan, usual)
    assert data_of(plan, short) == data_of(plan, usual)
    for cell in plan.cells:
        found, wanted = short.get(cell), usual.get(cell)
        assert found is not None and wanted is not None and found.spec == wanted.spec
        passes, usually = (record.provenance["forward_passes"] for record in (found, wanted))
        assert passes.keys() == usually.keys()
        assert all(size["rows"] <= 2 and size["most_tokens"] for size in passes.values())
        assert not any("most_tokens" in size for size in usually.values())
    for sae in plan.saes:
        record = short.get_sae(sae)
        assert record is not None
        assert list(record.provenance["forward_passes"]) == ["activations"]
    shown = abench("show", plan.cells[0].key[:12], "--results", tmp_path / "short").out
    assert "forward passes: activations 2 × 32 tokens, the most that memory held is 64 tokens; " in shown


def test_a_cell_for_which_a_single_row_is_too_much_fails_with_the_sentence(
    lm: LanguageModel, tmp_path: Path
) -> None:
    plan, store = small_plan(variants=("topk",)), Store.open(tmp_path / "results", create=True)
    run_plan(plan, store)
    for cell in plan.cells:
        cell_file(store, cell).unlink()
    with short_of_memory(lm, 0):
        outcome = run_plan(plan, store, lm=lm)
    reasons = {record.reason for record in outcome.failed}
    assert len(outcome.failed) == len(plan.cells)
    assert all(reason.startswith("there is not enough memory (torch tried") for reason in reasons if reason)


def test_the_activation_cache_keeps_only_bits_of_the_passes_that_its_key_names(
    lm: LanguageModel, tmp_path: Path
) -> None:
    tokens = some_tokens(lm)
    with ActivationCache.open(tmp_path / "cache", 1 << 30, print) as opened:
        rows = CachedRows(opened, lm, "weights", ())
        with short_of_memory(lm, 3):
            found = rows(tokens, AFTER, at_once=ROWS)
        assert torch.equal(found, computed_rows(lm, tokens, [AFTER], at_once=ROWS)[AFTER])
        assert opened.used() == 0
        whole = LanguageModel.load(MODEL_DIR, name="tiny")
        CachedRows(opened, whole, "weights", ())(tokens, AFTER, at_once=ROWS)
        assert opened.used() > 0


def test_questions_of_lm_eval_are_answered_in_parts(lm: LanguageModel) -> None:
    data = DataSpec(source="tinyworld", dataset=None)
    ctx = Context(AFTER, EvaluationSpec(limit=24, tokens=2048), data, context_size=128)
    wanted = Utility(lm, ctx, "test", 30)()
    with short_of_memory(lm, 7) as failed:
        assert Utility(lm, ctx, "test", 30)() == wanted
    assert failed
