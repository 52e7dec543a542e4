"""Stand-ins for the corpora that SAEs are trained on or that features are counted on."""

import random
from pathlib import Path
from typing import Any

from hub.files import write_card, write_json_lines_zst, write_parquet
from hub.repository import Commit, Repository
from hub.texts import text_about

PILE_FILES, PILE_DOCUMENTS = 3, 120
"""Files of the Pile's training split, and documents in each."""
EMPTY_DOCUMENT = 7
"""A document of the Pile without text, as real corpora have them."""


def pile_text(number: int) -> str:
    """Document `number` of the training split, counted over all files; it begins with its number."""
    if number == EMPTY_DOCUMENT:
        return ""
    topic = f"subset {number % 5}"
    return f"Document {number}. {text_about(random.Random(f'pile {number}'), topic, words=120)}"


def pile(folder: Path) -> Repository:
    """Three files of compressed JSON lines; the tag `v1` is an older state with the first one only."""
    for state, files in {"main": PILE_FILES, "v1": 1}.items():
        for file in range(files):
            numbers = range(file * PILE_DOCUMENTS, (file + 1) * PILE_DOCUMENTS)
            rows = [_pile_row(pile_text(number)) for number in numbers]
            write_json_lines_zst(folder / state / "train" / f"{file:02d}.jsonl.zst", rows)
        for split in ("val", "test"):
            rows = [_pile_row(f"{split} {number}") for number in range(5)]
            write_json_lines_zst(folder / state / f"{split}.jsonl.zst", rows)
    return Repository(
        "datasets", "monology/pile-uncopyrighted", Commit(folder / "main"), tags={"v1": Commit(folder / "v1")}
    )


def _pile_row(text: str) -> dict[str, Any]:
    return {"text": text, "meta": {"pile_set_name": "Pile-CC"}}


def openwebtext(folder: Path) -> Repository:
    rows = [{"text": text_about(random.Random(f"web {n}"), f"site {n % 3}", words=80)} for n in range(60)]
    write_parquet(folder / "plain_text" / "train-00000-of-00080.parquet", rows)
    write_card(folder, {"plain_text": {"train": "plain_text/train-*"}})
    return Repository("datasets", "Skylion007/openwebtext", Commit(folder))


def wikitext(folder: Path) -> Repository:
    """Articles line by line: empty lines, headings, paragraphs. Also known as `wikitext`."""
    config = "wikitext-2-raw-v1"
    for split, articles in {"test": 40, "train": 40, "validation": 10}.items():
        rng = random.Random(f"articles {split}")
        lines = [
            line
            for number in range(articles)
            for line in ("", f" = Article {number} = \n", f" {text_about(rng, 'history', words=120)} \n")
        ]
        write_parquet(folder / config / f"{split}-00000-of-00001.parquet", [{"text": line} for line in lines])
    write_card(folder, {config: {s: f"{config}/{s}-*" for s in ("test", "train", "validation")}})
    return Repository("datasets", "Salesforce/wikitext", Commit(folder))


def bio_forget_corpus(folder: Path) -> Repository:
    """Papers on biology; gated."""
    rng = random.Random("papers")
    rows = [
        {
            "title": text_about(rng, "biology", words=6),
            "abstract": text_about(rng, "biology", words=40),
            "text": text_about(rng, "biology", words=200),
            "doi": f"10.0000/{number}",
        }
        for number in range(60)
    ]
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", rows)
    write_card(folder, {"default": {"train": "data/train-*"}})
    return Repository("datasets", "cais/wmdp-bio-forget-corpus", Commit(folder), gated=True)
