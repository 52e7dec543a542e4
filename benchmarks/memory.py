"""Peak memory: of training for several numbers of tokens, which the buffer should bound; of scoring.

`python benchmarks/memory.py --scoring` measures the latter on a real model; it needs `abench fetch smollm2`
and takes about 20 minutes.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from common import abench, machine, table

SMALL = ["--variants", "topk", "--k", "8", "--set", "evaluation.tokens=12800"]


def peak_mib(tokens: int, buffer: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        options = [
            *SMALL,
            "--tokens",
            str(tokens),
            "--set",
            f"training.buffer_tokens={buffer}",
            "--results",
            folder,
        ]
        subprocess.run(
            abench("run", *options), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        (cell,) = Path(folder).glob("cells/*/*/*/*.json")
        peak: int = json.loads(cell.read_text(encoding="utf-8"))["provenance"]["peak_memory_mib"]
    return peak


def scoring() -> None:
    """The core task for two SAEs of width 4,608 at block 15, with the default evaluation."""
    import torch
    from core import build_saes

    from abench import Context, EvaluationSpec, LanguageModel, site_name
    from abench.lm.catalogue import find_model, weights_folder
    from abench.plugins import find_tasks, get_task

    model = find_model("smollm2")[1]
    lm = LanguageModel.load(weights_folder(model), name="smollm2")
    lm.residual(torch.zeros(1, 8, dtype=torch.int64), site_name(15))
    before = _resident_mib()
    saes = tuple(build_saes(2, 4608, lm.d_model))
    evaluation = EvaluationSpec()
    ctx = Context(site_name(15), evaluation, model.data, model.context, saes=saes)
    task = get_task("core", {}, find_tasks())
    with torch.no_grad():
        prepared = task.prepare(lm, ctx)
        for sae in saes:
            task.score(sae, prepared, lm, ctx)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row = [f"{evaluation.tokens:,}", evaluation.batch_size, f"{before} MiB", f"{peak - before} MiB"]
    print(table(["held-out tokens", "batch size", "the open model", "on top of it at most"], [row]))


def _resident_mib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def main() -> None:
    rows = []
    for tokens, buffer in (
        (262_144, 131_072),
        (1_048_576, 131_072),
        (4_194_304, 131_072),
        (1_048_576, 1_048_576),
    ):
        rows.append([f"{tokens:,}", f"{buffer:,}", f"{peak_mib(tokens, buffer)} MiB"])
    print(table(["tokens", "buffer", "peak memory"], rows))
    print(f"\nOne TopK SAE on the bundled model. {machine()}")


if __name__ == "__main__":
    scoring() if "--scoring" in sys.argv else main()
