"""Time of unlearning against sae-bench's procedure, on the same model, questions and SAE.

sae-bench's own entry point supports only two Gemma models, so its procedure is reproduced with its own hook
and rates: every order of every question with and without the question itself, then each of 16 settings
through the whole model with one encoding and two decodings, computing all logits. The SAEs are untrained.
"""

import inspect
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from abench.tasks._shared.choices import ORDERS, TINY, ChoiceQuestion
from abench.tasks.unlearning.texts import forget_documents, packed_rows, questions, retain_documents
from common import machine, table

from abench import Context, LanguageModel, right_padded, token_rows
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.tinyworld import MODEL_DIR
from abench.variants import SAEShape, get_variant

SITE = "blocks.2.hook_resid_post"
WIDTH, K = 2048, 16


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    with torch.no_grad():
        result = work()
    return time.perf_counter() - started, result


def build_sae(seed: int) -> Any:
    return get_variant("topk", {}).build(SAEShape(128, WIDTH, K), seed=seed).eval().requires_grad_(False)


def theirs_right(lm: LanguageModel, every: Sequence[ChoiceQuestion]) -> list[bool]:
    """The questions that are answered correctly, by the whole model and all logits."""
    letters = [ids[0] for ids in lm.token_ids(list(TINY.letters))]
    rows = token_rows(lm, [TINY.write(question) for question in every], 256)
    right = [False] * len(every)
    for numbers, tokens, _ in right_padded(rows, lm):
        logits = lm.model(input_ids=tokens).logits
        for place, number in enumerate(numbers):
            best = int(logits[place, len(rows[number]) - 1, letters].argmax())
            right[number] = best == every[number].answer
    return right


def theirs_known(lm: LanguageModel, every: Sequence[ChoiceQuestion]) -> list[ChoiceQuestion]:
    """sae-bench runs all 24 orders of every question, and again without the question."""
    turned = [question.ordered(order) for question in every for order in ORDERS]
    right = np.array(theirs_right(lm, turned)).reshape(len(every), -1).all(1)
    theirs_right(lm, [replace(question, opening="") for question in turned])
    return [question for question, passed in zip(every, right, strict=True) if passed]


def theirs_rates(lm: LanguageModel, sae: Any, rows: torch.Tensor) -> "np.ndarray[Any, Any]":
    from sae_bench.sae_bench_utils.activation_collection import get_feature_activation_sparsity

    class Runner:
        """The interface of a HookedTransformer that the function needs."""

        tokenizer = lm.tokenizer

        def run_with_cache(self, tokens: torch.Tensor, **_: Any) -> tuple[None, dict[str, torch.Tensor]]:
            return None, {SITE: lm.residual(tokens, SITE)}

    options = {"batch_size": 8, "layer": 2, "hook_name": SITE, "mask_bos_pad_eos_tokens": True}
    rates: np.ndarray[Any, Any] = inspect.unwrap(get_feature_activation_sparsity)(
        rows, Runner(), sae, **options
    ).numpy()
    return rates


def theirs_scored(
    lm: LanguageModel, sae: Any, every: Sequence[ChoiceQuestion], rows: Sequence[torch.Tensor]
) -> None:
    from sae_bench.evals.unlearning.utils.feature_activation import get_top_features
    from sae_bench.evals.unlearning.utils.intervention import anthropic_clamp_resid_SAE_features

    forget, retain = (theirs_rates(lm, sae, each) for each in rows)
    layer = lm.model.get_decoder().layers[2]
    for threshold, number, multiplier in product((0.001, 0.01), (10, 20), (25, 50, 100, 200)):
        latents = get_top_features(forget, retain, threshold)[:number].tolist()

        def clamp(
            _module: Any, _inputs: Any, output: Any, latents: Any = latents, m: Any = multiplier
        ) -> Any:
            return anthropic_clamp_resid_SAE_features(output, None, sae, latents, m)

        handle = layer.register_forward_hook(clamp)
        theirs_right(lm, every)
        handle.remove()


def measure(lm: LanguageModel, saes: Sequence[Any]) -> Iterator[list[str]]:
    task = get_task("unlearning", {}, find_tasks())
    data = DataSpec(source="tinyworld", dataset=None)
    ctx = Context(SITE, EvaluationSpec(), data, context_size=128, saes=tuple(saes))
    every = [question for subject in questions(ctx, None).values() for question in subject]
    sizes: dict[str, Any] = {"rows": 1024, "context": 128, "seed": 0, "what": "text"}
    documents = forget_documents(ctx, None), retain_documents(ctx)
    rows = [packed_rows(lm, each, texts=1024, **sizes) for each in documents]
    prepare, prepared = seconds(lambda: task.prepare(lm, ctx))
    score, _ = seconds(lambda: [task.score(sae, prepared, lm, ctx) for sae in saes])
    known, found = seconds(lambda: theirs_known(lm, every))
    theirs, _ = seconds(lambda: theirs_scored(lm, saes[0], found, rows))
    ours = prepare + score
    whole = known + theirs * len(saes)
    # abench counts the firings of all SAEs in one pass beforehand, sae-bench for each SAE separately.
    yield ["once (with firing rates: abench)", f"{known:.1f} s", f"{prepare:.1f} s", ""]
    yield ["each SAE (with firing rates: sae-bench)", f"{theirs:.1f} s", f"{score / len(saes):.1f} s", ""]
    yield [f"{len(saes)} SAEs in all", f"{whole:.1f} s", f"{ours:.1f} s", f"{whole / ours:.1f}×"]


def main() -> None:
    lm = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    saes = [build_sae(seed) for seed in range(count)]
    print(table(["", "sae-bench's way", "abench", "ratio"], list(measure(lm, saes))))
    print(f"\nWidth {WIDTH}, k {K}, 360 questions on 5 subjects, default options. {machine()}")


main()
