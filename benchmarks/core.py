"""Time of the core task against sae-bench's core evaluation, on the same model, tokens and SAEs.

sae-bench's `run_evals` is called with all its measurements, on abench's model with the interface of a
HookedTransformer. It evaluates each SAE separately; abench runs the clean and the ablated passes once.
`python benchmarks/core.py [--saes 8] [--width 2048] [--rows 160] [--repeat 3]`.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

os.environ["JAXTYPING_DISABLE"] = "1"  # sae-bench's annotations fail under the newest jaxtyping

import torch
from common import machine, table
from torch import Tensor

from abench import Context, LanguageModel, TokenRows, site_name
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.tinyworld import MODEL_DIR
from abench.variants import SAEShape, get_variant

SITE, LAYER, CONTEXT = "blocks.2.hook_resid_post", 2, 128
BATCH = 16
DATA = DataSpec(source="tinyworld", dataset=None)


class Hooked:
    """The interface of a HookedTransformer that sae-bench's core evaluation needs, on abench's model."""

    def __init__(self, lm: LanguageModel, layer: int) -> None:
        self._lm, self._layer = lm, layer

    def __call__(self, tokens: Tensor, *, return_type: str, loss_per_token: bool) -> tuple[Tensor, Tensor]:
        logits = self._lm.model(input_ids=tokens).logits
        log_probs = logits[:, :-1].log_softmax(-1)
        return logits, -log_probs.gather(-1, tokens[:, 1:, None])[..., 0]

    def run_with_hooks(
        self, tokens: Tensor, *, fwd_hooks: Sequence[tuple[str, Any]], **options: Any
    ) -> tuple[Tensor, Tensor]:
        ((_, change),) = fwd_hooks
        layer = self._lm.model.get_decoder().layers[self._layer]
        handle = layer.register_forward_hook(lambda _module, _inputs, output: change(output, hook=None))
        try:
            return self(tokens, **options)
        finally:
            handle.remove()

    def run_with_cache(self, tokens: Tensor, **_: Any) -> tuple[None, dict[str, Tensor]]:
        return None, {site_name(self._layer): self._lm.residual(tokens, site_name(self._layer))}


class Tokens:
    """The interface of an ActivationsStore that it needs: the same rows from the start."""

    store_batch_size_prompts, context_size = BATCH, CONTEXT

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows
        self.reset_input_dataset()

    def reset_input_dataset(self) -> None:
        self._batches: Iterator[Tensor] = iter(self._rows.split(BATCH))

    def get_batch_tokens(self, _batch_size: int) -> Tensor:
        return next(self._batches)


def theirs(lm: LanguageModel, saes: Sequence[Any], rows: Tensor) -> list[dict[str, Any]]:
    from sae_bench.evals.core.main import get_multiple_evals_everything_config, run_evals

    batches = len(rows) // BATCH
    config = get_multiple_evals_everything_config(BATCH, batches, batches)
    extra = {
        "compute_featurewise_density_statistics": True,
        "compute_featurewise_weight_based_metrics": True,
        "exclude_special_tokens_from_reconstruction": True,
    }
    special = set(lm.special_ids)
    found = []
    for sae in saes:
        site = {"hook_name": SITE, "hook_layer": LAYER, "hook_head_index": None, "d_sae": sae.cfg.d_sae}
        sae.cfg = SimpleNamespace(**{**vars(sae.cfg), **site, "architecture_str": sae.cfg.architecture()})
        options = SimpleNamespace(**vars(config), **extra)
        found.append(run_evals(sae, Tokens(rows), Hooked(lm, LAYER), options, ignore_tokens=special)[0])
    return found


def ours(lm: LanguageModel, saes: Sequence[Any], rows: Tensor) -> list[dict[str, float]]:
    task = get_task("core", {}, find_tasks())
    evaluation = EvaluationSpec(tokens=rows.numel(), batch_size=BATCH)
    ctx = Context(SITE, evaluation, DATA, CONTEXT, saes=tuple(saes))
    with torch.no_grad():
        prepared = task.prepare(lm, ctx)
        return [dict(task.score(sae, prepared, lm, ctx)) for sae in saes]


def build_saes(number: int, width: int, d_in: int = 128) -> list[Any]:
    """Untrained SAEs; every second one is signed."""
    return [
        get_variant(("topk", "abstopk")[seed % 2], {})
        .build(SAEShape(d_in, width, 16), seed=seed)
        .eval()
        .requires_grad_(False)
        for seed in range(number)
    ]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--saes", type=int, default=8)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=160, help=f"rows of {CONTEXT} tokens")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    lm = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    rows = TokenRows(lm, DATA, "held_out", CONTEXT).batch(options.rows)

    def fresh(number: int) -> list[Any]:
        return build_saes(number, options.width)

    seconds(lambda: (ours(lm, fresh(1), rows[:BATCH]), theirs(lm, fresh(1), rows[:BATCH])))  # first calls
    times: dict[str, list[float]] = {}
    for _ in range(options.repeat):
        for number in (1, options.saes):
            for name, way in (("abench", ours), ("sae-bench", theirs)):
                saes = fresh(number)
                taken = seconds(lambda way=way, saes=saes: way(lm, saes, rows))
                times.setdefault(f"{name}, {number} SAE{'s' * (number > 1)}", []).append(taken)
    many = times[f"abench, {options.saes} SAEs"]
    rows_of = []
    for name, each in times.items():
        beside = many if name.endswith("SAEs") else times["abench, 1 SAE"]
        ratio = statistics.median(a / b for a, b in zip(each, beside, strict=True))
        rows_of.append([name, f"{statistics.median(each):.1f} s", f"{ratio:.1f}"])
    print(table(["core", "time", "over abench"], rows_of))
    one = statistics.median(times["abench, 1 SAE"])
    further = (statistics.median(many) - one) / (options.saes - 1)
    print(f"\nA further SAE: {further / one:.0%} of the first one's time.")
    print(f"{rows.numel()} tokens, width {options.width}. {machine()}")


if __name__ == "__main__":
    main()
