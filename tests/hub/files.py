"""The files of data set repositories: parquet, compressed JSON lines, and the card that lists them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def write_parquet(path: Path, rows: Rows, features: Any = None) -> None:
    """Rows as one parquet file with the column types that `features` (datasets.Features) says."""
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list([dict(row) for row in rows], features=features).to_parquet(path)


def write_json_lines_zst(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as JSON lines compressed with zstandard."""
    import zstandard

    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(zstandard.compress(lines.encode()))


def write_card(folder: Path, configs: Mapping[str, Mapping[str, str]]) -> None:
    """README.md with each configuration's splits: {configuration: {split: file pattern}}."""
    lines = ["---", "configs:"]
    for name, splits in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, pattern in splits.items():
            lines += [f"  - split: {split}", f"    path: {pattern}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
