"""A real model's part of the work: reading, training a group, core and steering, beside other libraries.

`python benchmarks/real_model.py [FOLDER] [--layer 15] [--width 4608] [--k 32] [--parts forward,...]`; without
the folder of a Hugging Face model it takes the one that `abench fetch smollm2` makes.
"""

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

os.environ["JAXTYPING_DISABLE"] = "1"  # sae-bench's annotations fail under the newest jaxtyping

import torch
from common import machine, table
from core import Hooked, Tokens
from torch import Tensor, nn

from abench import AddDirection, ClampLatent, Context, LanguageModel, TokenRows, site_name, steered
from abench._torchvision import hide_if_broken
from abench.config import DataSpec, EvaluationSpec, load_run
from abench.data.activations import ActivationStream
from abench.lm.catalogue import find_model, local_commit, weights_folder
from abench.plugins import find_tasks, get_task
from abench.progress import Silent
from abench.results.store import Store
from abench.runs.group_training import train_missing
from abench.runs.plan import Plan, make_plan
from abench.training.trainer import SAETrainer
from abench.variants import SAEShape, get_variant

CONTEXT = 128
DATA = DataSpec(source="manuals", dataset=None, held_out_documents=300)


@dataclass(frozen=True)
class Bench:
    """The model and the sizes of all measurements."""

    folder: Path
    lm: LanguageModel
    layer: int
    width: int
    k: int

    @property
    def site(self) -> str:
        return site_name(self.layer)

    def rows(self, number: int) -> Tensor:
        return TokenRows(self.lm, DATA, "held_out", CONTEXT).batch(number)

    def saes(self, number: int) -> list[object]:
        shape = SAEShape(self.lm.d_model, self.width, self.k)
        names = [("abstopk", "topk")[seed % 2] for seed in range(number)]
        return [
            get_variant(n).build(shape, seed).eval().requires_grad_(False) for seed, n in enumerate(names)
        ]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(ways: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of each way in each turn; a first call of each is not counted."""
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            times[name].append(seconds(way))
    return times


def ratio(times: dict[str, list[float]], over: str, under: str) -> float:
    """The median over the turns of the ratio within a turn."""
    return statistics.median(a / b for a, b in zip(times[over], times[under], strict=True))


@torch.inference_mode()
def forward(bench: Bench, turns: int = 7) -> None:
    """Tokens per second to the site, against the matrix products of the same blocks alone."""
    tokens = bench.rows(8)
    linear = [
        module
        for block in bench.lm.model.get_decoder().layers[: bench.layer + 1]
        for module in block.modules()
        if isinstance(module, nn.Linear)
    ]
    inputs = {m.in_features: torch.randn(tokens.numel(), m.in_features) for m in linear}
    weights = [(inputs[m.in_features], m.weight.T) for m in linear]
    ways = {
        "abench, to the site": lambda: bench.lm.residual(tokens, bench.site),
        "its linear layers' products alone": lambda: [x @ w for x, w in weights],
        "transformers, all blocks and logits": lambda: bench.lm.logits(tokens),
        "transformer-lens's bridge, to the site": bridge_to(bench, tokens),
    }
    times = in_turns(ways, turns)
    rows = [
        [name, f"{tokens.numel() / statistics.median(t):,.0f}", f"{ratio(times, next(iter(ways)), name):.2f}"]
        for name, t in times.items()
    ]
    print(
        table(
            [f"to block {bench.layer}, {tokens.numel()} tokens at once", "tokens/s", "speed over abench's"],
            rows,
        )
    )


def bridge_to(bench: Bench, tokens: Tensor) -> Callable[[], object]:
    """What sae-lens reads activations with: transformer-lens's bridge, stopped after the block."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(bench.folder), device="cpu")
    options = {"names_filter": [bench.site], "stop_at_layer": bench.layer + 1}
    return lambda: bridge.run_with_cache(tokens, **options)


def plan_of(bench: Bench, tokens: int) -> Plan:
    """Six SAEs: three variants at two sparsities."""
    config = load_run(
        None,
        {
            "model": str(bench.folder),
            "layers": (bench.layer,),
            "preset": "tiny",
            "k": (bench.k // 2, bench.k),
            "width": (bench.width,),
            "training.tokens": tokens,
            "data": DATA.model_dump(),
        },
    )
    name, model = find_model(config.model)
    variants = {each: get_variant(each, {}) for each in config.variants}
    tasks = {"core": get_task("core", {}, find_tasks())}
    return make_plan(config, name, model, variants, tasks, commit=local_commit(model))


def group(bench: Bench, tokens: int = 40_960) -> None:
    """A group of six SAEs against the sum of its forward passes and its steps."""
    plan = plan_of(bench, tokens)
    spec = plan.saes[0].training
    stream = ActivationStream(bench.lm, plan.groups[0].site, plan.data, spec, context=plan.model.context)
    batches: list[Tensor] = []
    reading = seconds(lambda: batches.extend(b.clone() for b in islice(stream.batches(), spec.steps)))
    stepping = 0.0
    for job in plan.saes:
        trainer = SAETrainer(job.variant, SAEShape(bench.lm.d_model, job.width, job.k), spec, seed=job.seed)
        stepping += seconds(lambda trainer=trainer: [trainer.train_on(batch) for batch in batches])
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "results", create=True)
        whole = seconds(
            lambda: train_missing(plan.saes, bench.lm, store, Silent(), device="cpu", checkpoint_seconds=30)
        )
    lens = sae_lens_steps(plan, batches)
    one_by_one = len(plan.saes) * reading + lens
    rows = [
        ["reading the activations once", f"{reading:.1f} s", f"{reading / whole:.2f}"],
        [f"the steps of {len(plan.saes)} SAEs alone", f"{stepping:.1f} s", f"{stepping / whole:.2f}"],
        ["the whole group", f"{whole:.1f} s", "1.00"],
        ["sae-lens's steps for the same SAEs", f"{lens:.1f} s", f"{lens / whole:.2f}"],
        ["one SAE after the other, sae-lens's steps", f"{one_by_one:.1f} s", f"{one_by_one / whole:.2f}"],
    ]
    print(table([f"{spec.steps * spec.batch_size:,} tokens", "time", "over the group"], rows))
    print(f"\nThe group over the sum of its parts: {whole / (reading + stepping):.2f}")


def sae_lens_steps(plan: Plan, batches: Sequence[Tensor]) -> float:
    from train_step_contenders import Problem, sae_lens

    total = 0.0
    for job in plan.saes:
        shape = SAEShape(batches[0].shape[1], job.width, job.k)
        step = sae_lens(Problem(job.variant.name, shape, batches[0]))
        if step is None:
            raise RuntimeError(f"sae-lens has no {job.variant.name}")
        step()
        total += seconds(lambda step=step: [step() for _ in batches])
    return total


@torch.no_grad()
def core(bench: Bench, rows: int = 32) -> None:
    """The core task for one SAE and for four, beside sae-bench's core."""
    task = get_task("core", {}, find_tasks())
    text = bench.rows(rows)

    def ours(number: int) -> Callable[[], object]:
        saes = bench.saes(number)

        def work() -> None:
            evaluation = EvaluationSpec(tokens=text.numel(), batch_size=16)
            ctx = Context(bench.site, evaluation, DATA, CONTEXT, saes=tuple(saes))
            prepared = task.prepare(bench.lm, ctx)
            for sae in saes:
                task.score(sae, prepared, bench.lm, ctx)

        return work

    times = {name: seconds(ours(n)) for name, n in (("abench, 1 SAE", 1), ("abench, 4 SAEs", 4))}
    times["sae-bench, 1 SAE"] = seconds(lambda: sae_bench_core(bench, text))
    one, four = times["abench, 1 SAE"], times["abench, 4 SAEs"]
    print(
        table(
            [f"core, {text.numel():,} tokens", "time", "over 1 SAE"],
            [[name, f"{t:.1f} s", f"{t / one:.2f}"] for name, t in times.items()],
        )
    )
    print(f"\nA further SAE: {(four - one) / 3 / one:.0%} of the first one's time.")


def sae_bench_core(bench: Bench, text: Tensor) -> None:
    from types import SimpleNamespace

    from sae_bench.evals.core.main import get_multiple_evals_everything_config, run_evals

    (sae,) = copy.deepcopy(bench.saes(1))
    site = {"hook_name": bench.site, "hook_layer": bench.layer, "hook_head_index": None, "d_sae": bench.width}
    sae.cfg = SimpleNamespace(**{**vars(sae.cfg), **site, "architecture_str": sae.cfg.architecture()})
    batches = len(text) // Tokens.store_batch_size_prompts
    extra = {
        "compute_featurewise_density_statistics": True,
        "compute_featurewise_weight_based_metrics": True,
        "exclude_special_tokens_from_reconstruction": True,
    }
    options = SimpleNamespace(**vars(get_multiple_evals_everything_config(16, batches, batches)), **extra)
    hooked = Hooked(bench.lm, bench.layer)
    run_evals(sae, Tokens(text), hooked, options, ignore_tokens=set(bench.lm.special_ids))


def steering(bench: Bench, turns: int = 3) -> None:
    """Replies per second, plain and steered."""
    wishes = [f"Write a long letter about {what}." for what in ("tea", "rain", "a train", "the sea") * 2]
    prompts = [
        bench.lm.tokenizer.apply_chat_template(
            [{"role": "user", "content": wish}], tokenize=False, add_generation_prompt=True
        )
        for wish in wishes
    ]
    sae = bench.saes(1)[0]
    direction = torch.ones(bench.lm.d_model)

    def reply(intervention: object | None) -> Callable[[], object]:
        def work() -> None:
            if intervention is None:
                bench.lm.generate(prompts, max_new_tokens=32)
                return
            with steered(bench.lm, bench.site, intervention):
                bench.lm.generate(prompts, max_new_tokens=32)

        return work

    ways = {
        "plain": reply(None),
        "a direction added": reply(AddDirection(direction, 0.01)),
        "a latent clamped": reply(ClampLatent(sae, 0, 0.01)),
    }
    times = in_turns(ways, turns)
    print(
        table(
            [f"{len(prompts)} replies of 32 tokens", "replies/s", "time over plain"],
            [
                [name, f"{len(prompts) / statistics.median(t):.2f}", f"{ratio(times, name, 'plain'):.2f}"]
                for name, t in times.items()
            ],
        )
    )


def main() -> None:
    hide_if_broken()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--layer", type=int, default=15)
    parser.add_argument("--width", type=int, default=4608)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--parts", default="forward,group,core,steering")
    options = parser.parse_args()
    folder = options.folder or weights_folder(find_model("smollm2")[1])
    lm = LanguageModel.load(folder, name=folder.name)
    bench = Bench(folder, lm, options.layer, options.width, options.k)
    parts = {"forward": forward, "group": group, "core": core, "steering": steering}
    for part in options.parts.split(","):
        parts[part](bench)
        print(flush=True)
    print(machine())


if __name__ == "__main__":
    main()
