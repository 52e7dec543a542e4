"""Peak memory of a run for several numbers of training tokens; the buffer should bound it."""

import json
import subprocess
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


main()
