"""abench's own SAEs in the results folder of another run: sae-lens folders with a sealed record, sae.json."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from sae_lens.constants import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME

from abench.errors import UserError
from abench.importing.files import read_json, read_weights
from abench.importing.formats.saelens import from_settings
from abench.importing.parsed import Format, Parsed
from abench.importing.settings import part, text, whole
from abench.results.jobs import sae_label
from abench.results.sae_folder import MARK, read_sae
from abench.storage.opening import bundle_at
from abench.storage.sealed import Damaged


def find(path: Path) -> Path | None:
    """The record of one of abench's SAEs, given its folder or a file in it."""
    folder = path if path.is_dir() else path.parent
    mark = folder / MARK
    return mark if mark.is_file() and path.name in {folder.name, MARK, SAE_WEIGHTS_FILENAME} else None


def parse(mark: Path) -> Parsed:
    """The SAE with this record; its files are checked against the checksums in the record."""
    folder = mark.parent
    try:
        record = read_sae(bundle_at(folder), None)
    except (Damaged, FileNotFoundError) as error:
        raise UserError(f"{error}: copy the folder again, or run abench where it was trained") from error
    if record.status == "failed":
        raise UserError(f"the SAE in {folder} could not be trained: {record.reason}")
    config, file = read_json(folder / SAE_CFG_FILENAME), folder / SAE_WEIGHTS_FILENAME
    labels: dict[str, Any] = record.labels
    return replace(
        from_settings(config, read_weights(file), file),
        hook=text(labels.get("site")),
        model=text(labels.get("model")),
        k=whole(labels.get("k")),
        context=whole(part(record.spec, "model").get("context")),
        name=sae_label(labels),
    )


FORMAT = Format("abench", find, parse, files=(MARK, SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME))
