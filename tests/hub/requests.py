"""Stand-ins for the data sets of requests, harmful and harmless."""

import random
from pathlib import Path

from hub.files import write_card, write_parquet
from hub.repository import Commit, Repository
from hub.texts import text_about

BEHAVIOURS = {"standard": 40, "contextual": 20, "copyright": 20}
"""Configuration -> rows."""
INSTRUCTIONS = 80


def harmbench(folder: Path) -> Repository:
    """HarmBench's behaviours in the three configurations of this mirror; gated."""
    for config, number in BEHAVIOURS.items():
        rng = random.Random(f"behaviours {config}")
        rows = [
            {"prompt": text_about(rng, "harm", words=8), "category": rng.choice(("illegal", "chemical"))}
            | ({"context": text_about(rng, "harm", words=20)} if config == "contextual" else {})
            for _ in range(number)
        ]
        write_parquet(folder / config / "train-00000-of-00001.parquet", rows)
    write_card(folder, {config: {"train": f"{config}/train-*"} for config in BEHAVIOURS})
    return Repository("datasets", "walledai/HarmBench", Commit(folder), gated=True)


def alpaca(folder: Path) -> Repository:
    """Instructions with their answers; every fourth comes with an input to work on."""
    rng = random.Random("instructions")
    rows = []
    for number in range(INSTRUCTIONS):
        instruction = text_about(rng, "help", words=8)
        given = text_about(rng, "help", words=6) if number % 4 == 0 else ""
        answer = text_about(rng, "help", words=12)
        text = f"### Instruction:\n{instruction}\n\n### Response:\n{answer}"
        rows.append({"instruction": instruction, "input": given, "output": answer, "text": text})
    write_parquet(folder / "data" / "train-00000-of-00001-a09b74b3ef9c3b56.parquet", rows)
    write_card(folder, {"default": {"train": "data/train-*"}})
    return Repository("datasets", "tatsu-lab/alpaca", Commit(folder))
