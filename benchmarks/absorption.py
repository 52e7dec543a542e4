"""Time of the absorption task against sae-bench's evaluation, on the same model, words and SAEs.

sae-bench runs from k-sparse probing to its table of letters, with its own settings (no cached codes, ten
sizes of probe, all letters) and the same batches and epochs. It receives the residual stream of the probe's
words, as it would find it in its cache after the first SAE; for absorption it runs the model itself. Work
that both do once for all SAEs is listed separately. `--widths` and `--repeat` change the sizes.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from abench.tasks.absorption import Absorption, Spelled
from abench.tasks.absorption.spelling import TINY
from common import machine, table

from abench import Context, LanguageModel, SplitSAE
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import MODEL_DIR
from abench.variants import SAEShape, get_variant

SITE, LAYER = "blocks.2.hook_resid_post", 2
CONTEXT = Context(SITE, EvaluationSpec(), DataSpec(source="tinyworld", dataset=None), 128)


class Hooked:
    """The interface of a HookedTransformer that sae-bench's absorption needs, on abench's model."""

    tokenizer = "any"

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm

    def to_tokens(self, prompts: str | list[str]) -> torch.Tensor:
        several = [prompts] if isinstance(prompts, str) else prompts
        return torch.tensor([[self._lm.bos_id, *ids] for ids in self._lm.token_ids(several)])

    def run_with_cache(self, prompts: list[str], names_filter: list[str]) -> tuple[None, dict[str, Any]]:
        return None, {names_filter[0]: self._lm.residual(self.to_tokens(prompts), names_filter[0])}


def sae_of(variant: str, width: int) -> Any:
    sae = get_variant(variant, {}).build(SAEShape(128, width, 16), seed=0)
    return sae.eval().requires_grad_(False)


def ours(task: Absorption, sae: Any, spelled: Spelled, lm: LanguageModel) -> float:
    started = time.perf_counter()
    with torch.no_grad():
        task.score(sae, spelled, lm, CONTEXT)
    return time.perf_counter() - started


def sae_bench(sae: Any, spelled: Spelled, lm: LanguageModel, batch: int) -> float:
    from sae_bench.evals.absorption import feature_absorption as fa
    from sae_bench.evals.absorption import k_sparse_probing as ks
    from sae_bench.evals.absorption.main import _aggregate_results_df
    from sae_bench.evals.absorption.probing import LinearProbe
    from sae_bench.evals.absorption.prompting import first_letter_formatter

    probe = LinearProbe(lm.d_model, 26)
    probe.fc.weight.data = spelled.probe.weight.T.float().contiguous()
    probe.fc.bias.data = spelled.probe.bias.float()
    train, test = ([(w.text, w.letter) for w in part.words] for part in (spelled.train, spelled.test))
    started = time.perf_counter()
    with torch.enable_grad(), tempfile.TemporaryDirectory() as folder:
        k_probes = ks.train_k_sparse_probes(
            sae, train, spelled.train.residual, ks=range(1, 11), batch_size=batch
        )
        raw = ks.eval_probe_and_sae_k_sparse_raw_scores(sae, probe, k_probes, test, spelled.test.residual)
        metrics = ks.build_metrics_df(raw, ks.sae_k_sparse_metadata(sae, probe, k_probes, "sae", LAYER), 10)
        ks.add_feature_splits_to_metrics_df(metrics, 10)
        raw.to_parquet(Path(folder) / ks.get_sparse_probing_raw_results_filename("sae", LAYER))
        stats = fa.get_stats_and_likely_false_negative_tokens(metrics, "sae", LAYER, Path(folder))
        calculator = fa.FeatureAbsorptionCalculator(
            Hooked(lm),
            [word for word, _ in train + test],
            max_icl_examples=10,
            base_template=TINY.line,
            answer_formatter=first_letter_formatter(capitalize=False),
            word_token_pos=-6,
        )
        _aggregate_results_df(fa.calculate_projection_and_cos_sims(calculator, sae, probe, LAYER, stats))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--repeat", type=int, default=3, help="SAEs of each width")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 4096])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lm = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    rows = []
    for batch in options.batches:
        task = Absorption(batch_size=batch, min_letters=1, min_probe_f1=0)
        started = time.perf_counter()
        spelled = task.prepare(lm, CONTEXT)
        once = time.perf_counter() - started
        ours(task, sae_of("topk", 64), spelled, lm)  # imports
        for width in options.widths:
            mine = [ours(task, sae_of("topk", width), spelled, lm) for _ in range(options.repeat)]
            signed = sae_of("abstopk", width)
            views = [ours(task, sae, spelled, lm) for sae in (signed, SplitSAE(signed))]
            theirs = sae_bench(sae_of("topk", width), spelled, lm, batch)
            best = min(mine)
            seconds = [
                f"{once:.1f} s",
                f"{best:.2f} s",
                f"{views[0]:.2f} + {views[1]:.2f} s",
                f"{theirs:.0f} s",
            ]
            rows.append([batch, width, *seconds, f"{theirs / best:.0f}", f"{best / (once + best):.0%}"])
    heads = ["batch", "width", "once", "an SAE", "signed, both views", "sae-bench, an SAE", "ratio"]
    print(table([*heads, "second SAE / first"], rows))
    print(f"\n{machine()}")


main()
