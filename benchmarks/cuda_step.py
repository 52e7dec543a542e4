"""Time of a training step on a GPU, by implementation, against other libraries' steps.

    python benchmarks/cuda_step.py [--quick] [--output FILE]

As train_step.py, but synchronises with the device before and after every step. The implementations of
abench's TopK step are its own Triton kernels, torch's sparse products, and dense products of codes that are
mostly zeros. Needs a CUDA device.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from common import table
from torch import Tensor
from train_step import Times, activations, milliseconds, problems, ratio, take_turns
from train_step_contenders import Problem, dictionary_learning, floor, ours, sae_lens, sparsify

from abench.kernels.sparse_codes import SparseCodes
from abench.runs.provenance import package_versions
from abench.variants import SAEShape

SHAPES = {
    "that of the CPU's table": (SAEShape(512, 8192, 32, "cuda"), 2048),
    "the default run's": (SAEShape(128, 2048, 16, "cuda"), 4096),
    "GPT-2, 32 × its width": (SAEShape(768, 24_576, 32, "cuda"), 4096),
    "Gemma 2 2B, 16 × its width": (SAEShape(2304, 36_864, 64, "cuda"), 4096),
}


class DenseProducts(SparseCodes):
    """Sparse codes that are multiplied as dense matrices, including their zeros."""

    def decode(self, values: Tensor, weight: Tensor) -> Tensor:
        return self._dense(values) @ weight

    def sample(self, rows: Tensor, weight: Tensor, *, name: str = "sampled") -> Tensor:
        return (rows @ weight.T).view(-1)[self._places]

    def add_outer(self, values: Tensor, rows: Tensor, out: Tensor, *, first: bool) -> None:
        out.addmm_(self._dense(values).T, rows, beta=0 if first else 1)

    def add_inner(self, rows: Tensor, values: Tensor, out: Tensor, *, first: bool) -> None:
        out.addmm_(rows.T, self._dense(values), beta=0 if first else 1)

    @property
    def _places(self) -> Tensor:
        tokens = torch.arange(len(self.offsets) - 1, device=self.columns.device)
        tokens = tokens.repeat_interleave(self.offsets.diff(), output_size=len(self.columns))
        return tokens * self.width + self.columns

    def _dense(self, values: Tensor) -> Tensor:
        dense = values.new_zeros((len(self.offsets) - 1) * self.width)
        return dense.index_copy_(0, self._places, values).view(-1, self.width)


def ways(shape: SAEShape, tokens: int, turns: int) -> str:
    """The implementations of a TopK step, and other libraries' steps."""
    problem = Problem("topk", shape, activations(shape, tokens))
    low = replace(problem, precision="bfloat16")
    makers: dict[str, Callable[[], Callable[[], object] | None]] = {
        "abench": lambda: ours(problem),
        "abench, torch's sparse products": lambda: ours(problem, SparseCodes),
        "abench, dense products": lambda: ours(problem, DenseProducts),
        "abench, bfloat16": lambda: ours(low),
        "sae-lens": lambda: sae_lens(problem),
        "sae-lens, bfloat16": lambda: sae_lens(low),
        "dictionary_learning": lambda: dictionary_learning(problem),
        "sparsify": lambda: sparsify(problem),
        "floor": lambda: floor(problem),
    }
    rows = []
    times: Times = {}
    for name, make in makers.items():
        try:
            step = make()
        except ImportError as error:
            rows.append([name, f"not installed ({error})", "—"])
            continue
        if step is not None:
            # One after the other, because two large SAEs may not fit and a GPU has no other load.
            times |= {name: take_turns({name: step}, turns)[name]}
            rows.append([name, milliseconds(times, name), ratio(times, name)])
        del step
        torch.cuda.empty_cache()
    return table(["TopK step", "ms", "to abench"], rows)


def variants(shape: SAEShape, tokens: int, turns: int) -> str:
    """All variants against sae-lens."""
    rows = []
    for problem, label in problems(shape, tokens, shape.width // 10):
        steps = {"abench": ours(problem), "sae-lens": sae_lens(problem)}
        times = take_turns({name: step for name, step in steps.items() if step}, turns)
        medians = [milliseconds(times, name) for name in ("abench", "sae-lens")]
        rows.append([label, *medians, ratio(times, "sae-lens")])
    return table(["training step", "abench, ms", "sae-lens, ms", "ratio"], rows)


def profile(shape: SAEShape, tokens: int) -> str:
    """A profile of abench's TopK step."""
    step = ours(Problem("topk", shape, activations(shape, tokens)))
    step()
    with torch.profiler.profile() as profiler:
        for _ in range(5):
            step()
        torch.cuda.synchronize()
    averages = profiler.key_averages()
    return str(averages.table(sort_by="self_cuda_time_total", row_limit=18, max_name_column_width=60))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--profile", action="store_true", help="where the time goes, too")
    parser.add_argument("--output", type=Path, help="a file for the tables")
    options = parser.parse_args()
    turns = 5 if options.quick else 21
    parts = []
    for name, (shape, tokens) in SHAPES.items():
        size = f"d = {shape.d_in}, width {shape.width}, k = {shape.k}, {tokens} tokens, {turns} turns"
        parts.append(f"{name}: {size}\n")
        parts.append(ways(shape, tokens, turns) + "\n")
        parts.append(variants(shape, tokens, turns) + "\n")
        if options.profile:
            parts.append(profile(shape, tokens))
        print("\n".join(parts[-4:]), flush=True)
        torch.cuda.empty_cache()
    versions = package_versions()
    packages = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "sae-lens"))
    parts.append(f"{torch.cuda.get_device_name()}; {packages}")
    print(parts[-1])
    if options.output:
        options.output.write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
