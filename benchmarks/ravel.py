"""Time of RAVEL's mask training against sae-bench's own step, and of a second SAE after the first.

Both use the same pairs, SAE and model. sae-bench's step is its MDBM module as called by its `train_mdbm`,
with the model's weights not frozen, as in sae-bench; the only change is that its hooks receive tuples, which
the layers of transformers 5 no longer return. Times are CPU times, medians of interleaved turns.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("JAXTYPING_DISABLE", "1")

import torch
from abench.tasks.ravel import Ravel
from abench.tasks.ravel.bank import Bank
from abench.tasks.ravel.mask import Fit, learn_mask
from abench.tasks.ravel.pairs import Pair
from common import machine, table
from torch.nn.functional import cross_entropy

from abench import Context, LanguageModel, site_name
from abench._torchvision import hide_if_broken
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import MODEL_DIR
from abench.variants import SAEShape, get_variant

hide_if_broken()

BATCH, STEPS, TURNS = 32, 8, 5
FIT = Fit(1e-3, 1, BATCH)


def new_sae(d: int, width: int) -> Any:
    return get_variant("topk", {}).build(SAEShape(d, width, 16), seed=0).eval().requires_grad_(False)


def larger_model() -> LanguageModel:
    """Eight blocks of width 512 with random weights, in which the model dominates the cost."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tiny = LanguageModel.load(MODEL_DIR, name="tiny")
    sizes = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4}
    config = Qwen3Config(vocab_size=len(tiny.tokenizer), head_dim=64, intermediate_size=1536, **sizes)
    return LanguageModel(Qwen3ForCausalLM(config), tiny.tokenizer, name="random 8 x 512")


def tiny_pairs(lm: LanguageModel, tiny: LanguageModel, site: str) -> tuple[Bank, list[Pair]]:
    """The tiny world's pairs about the countries of cities, whether or not the model knows the answers."""
    task = Ravel(attributes={"city": ("country", "language")})
    context = Context(site_name(1), EvaluationSpec(), DataSpec(source="tinyworld", dataset=None), 128)
    prepared = task.prepare(tiny, context)
    pairs = list(prepared.experiments[0][0].train)[: BATCH * STEPS]
    return Bank(lm, site, prepared.bank.known, {pair.base for pair in pairs}), pairs


def their_steps(
    lm: LanguageModel, layer: int, sae: Any, bank: Bank, pairs: Sequence[Pair]
) -> Callable[[], None]:
    from sae_bench.evals.ravel.eval_config import RAVELEvalConfig
    from sae_bench.evals.ravel.generation import custom_left_padding
    from sae_bench.evals.ravel.mdbm import MDBM

    sae.cfg.hook_layer = layer
    mdbm = MDBM(lm.model, lm.tokenizer, RAVELEvalConfig(llm_batch_size=BATCH), sae)
    adam = torch.optim.Adam([mdbm.binary_mask], lr=FIT.learning_rate)
    batches = [pairs[i : i + BATCH] for i in range(0, len(pairs), BATCH)]
    longest = max(len(bank.known[number].row) for pair in pairs for number in (pair.base, pair.source))

    def encoding(numbers: list[int]) -> dict[str, torch.Tensor]:
        rows = [bank.known[number].row for number in numbers]
        tokens, mask = custom_left_padding(lm.tokenizer, rows, longest)
        return {"input_ids": tokens, "attention_mask": mask}

    def places(numbers: list[int]) -> torch.Tensor:
        """Positions from the end, because padding is on the left."""
        known = [bank.known[number] for number in numbers]
        return torch.tensor([each.position - len(each.row) for each in known])

    def run() -> None:
        for batch in batches:
            bases, sources = [pair.base for pair in batch], [pair.source for pair in batch]
            adam.zero_grad()
            logits, _ = mdbm(
                encoding(bases), encoding(sources), places(bases), places(sources), training_mode=True
            )
            cross_entropy(logits, torch.tensor([bank.known[p.target].first for p in batch])).backward()
            adam.step()

    return run


@contextmanager
def as_sae_bench_finds_it(lm: LanguageModel) -> Iterator[None]:
    """Make hooks receive tuples and weights require gradients, as sae-bench expects."""
    from sae_bench.sae_bench_utils import activation_collection

    class Layer:
        def __init__(self, number: int) -> None:
            self._layer = lm.model.get_decoder().layers[number]

        def register_forward_hook(self, hook: Any) -> Any:
            # A copy, because the hook writes into a tensor that the next layer's gradient needs.
            return self._layer.register_forward_hook(lambda m, i, o: hook(m, i, (o.clone(),))[0])

    before, activation_collection.get_module = activation_collection.get_module, lambda _, n: Layer(n)
    lm.model.requires_grad_(True)
    try:
        yield
    finally:
        activation_collection.get_module = before
        lm.model.requires_grad_(False)
        lm.model.zero_grad(set_to_none=True)


def cpu_seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def step_row(lm: LanguageModel, tiny: LanguageModel, layer: int, width: int) -> list[object]:
    sae, site = new_sae(lm.d_model, width), site_name(layer)
    bank, pairs = tiny_pairs(lm, tiny, site)
    theirs = their_steps(lm, layer, sae, bank, pairs)
    ours, others = [], []
    for _ in range(TURNS):
        ours.append(cpu_seconds(lambda: learn_mask(sae, pairs, bank, lm, site, FIT)))
        with as_sae_bench_finds_it(lm):
            others.append(cpu_seconds(theirs))
    a, b = (1000 * statistics.median(each) / STEPS for each in (ours, others))
    where = f"{lm.name}, after block {layer} of {lm.n_layers}"
    return [where, width, f"{b:.0f} ms", f"{a:.1f} ms", f"{b / a:.1f}"]


def sae_rows(lm: LanguageModel) -> list[list[object]]:
    """CPU seconds of `prepare`, and of scoring one SAE after another, with the task's defaults."""
    task, saes = Ravel(), [new_sae(lm.d_model, 2048) for _ in range(3)]
    context = Context(site_name(1), EvaluationSpec(), DataSpec(source="tinyworld", dataset=None), 128)
    prepared: list[Any] = []
    with torch.no_grad():
        preparing = cpu_seconds(lambda: prepared.append(task.prepare(lm, context)))
        each = [cpu_seconds(lambda s=sae: task.score(s, prepared[0], lm, context)) for sae in saes]
    return [["preparing", f"{preparing:.1f} s"]] + [[f"SAE {i}", f"{s:.1f} s"] for i, s in enumerate(each, 1)]


def main() -> None:
    tiny = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    larger = larger_model()
    rows = [step_row(*each, 2048) for each in ((tiny, tiny, 0), (tiny, tiny, 1))]
    rows += [step_row(larger, tiny, layer, 8192) for layer in (3, 5)]
    print(table(["model and site", "latents", "sae-bench", "abench", "ratio"], rows))
    print(f"\nOne step of {BATCH} pairs. {machine()}\n")
    print(table(["tiny world, five attributes, 2048 latents", "CPU"], sae_rows(tiny)))


main()
