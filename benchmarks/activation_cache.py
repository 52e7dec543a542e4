"""The activation cache: what writing and reading cost relative to the forward pass, and several sites.

`python benchmarks/activation_cache.py [MODEL]`; without a model, on the one that comes with abench.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from common import machine, table
from torch import Tensor

from abench import LanguageModel, site_name
from abench.data.activations import ROWS_PER_READ
from abench.data.readers import computed_rows
from abench.data.shards import read_shard, write_shard
from abench.data.token_rows import TokenRows
from abench.lm.catalogue import find_model, weights_folder

READS = 5


def seconds(act: Callable[[Tensor], object], reads: list[Tensor]) -> float:
    """The median time of an action on one read of rows, after one that does not count."""
    act(reads[0])
    taken = []
    for tokens in reads[1:]:
        started = time.perf_counter()
        act(tokens)
        taken.append(time.perf_counter() - started)
    return median(taken)


def main(name: str = "tiny") -> None:
    _, model = find_model(name)
    lm = LanguageModel.load(weights_folder(model), name=name, eos_after_documents=model.eos_after_documents)
    rows = TokenRows(lm, model.data, "train", model.context)
    reads = [rows.batch(ROWS_PER_READ) for _ in range(READS + 1)]
    at_once = -(-1024 // model.context)
    sites = [site_name(lm.n_layers // 6), site_name(lm.n_layers // 2), site_name(5 * lm.n_layers // 6)]

    def forward(*of: str) -> float:
        return seconds(lambda tokens: computed_rows(lm, tokens, of, at_once=at_once), reads)

    alone = {site: forward(site) for site in sites}
    together = forward(*sites)
    values = computed_rows(lm, reads[0], sites[:1], at_once=at_once)[sites[0]]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shard.safetensors"
        write = seconds(lambda _: write_shard(file, values, "key"), reads)
        read = seconds(lambda _: read_shard(file, "key"), reads)
    size = values.numel() * values.itemsize
    passes = sum(alone.values())
    shown = [
        [f"forward pass to {site}", f"{1e3 * each:,.1f} ms", f"{each / alone[sites[1]]:.3f}", ""]
        for site, each in alone.items()
    ]
    shown.append(
        ["forward pass, all three", f"{1e3 * together:,.1f} ms", f"{together / passes:.3f} of 3", ""]
    )
    for what, each in (("write a shard", write), ("read a shard", read)):
        rate = f"{size / each / 1e9:.2f} GB/s"
        shown.append([what, f"{1e3 * each:,.1f} ms", f"{each / alone[sites[1]]:.3f}", rate])
    cached = (together + 3 * write + 2 * read) / passes
    shown.append(["three sites with the cache", "", f"{cached:.3f} of 3", ""])
    print(
        table(
            [f"{ROWS_PER_READ} rows of {model.context} tokens, {size / 1e6:.1f} MB", "time", "ratio", ""],
            shown,
        )
    )
    print(f"\n{model.title}; ratios to the pass to {sites[1]}, or to three passes. {machine()}")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(*sys.argv[1:2])
