"""Opening the SAE of a record: from its folder, or from where it was when abench scored it."""

from pathlib import Path
from typing import Any

from abench.errors import UserError
from abench.results.store import SAERecord


def open_recorded_sae(folder: Path, record: SAERecord, device: str = "cpu") -> Any:
    """The SAE (`abench.SAE`) of a record in a results folder.

    Raises UserError if an SAE that abench did not train is no longer where it was, has changed, or was an
    object in memory.
    """
    given = record.spec.get("given")
    if given is None:
        from abench.variants import load_sae

        return load_sae(folder, device=device)
    from abench.importing import read_sae

    place = record.provenance.get("sae")
    if place is None:
        raise UserError(
            f"the SAE {record.labels['variant']} was an object in memory: it cannot be opened again"
        )
    sae = read_sae(place)
    if sae.identity != given["identity"]:
        raise UserError(f"the SAE in {place} has changed since it was scored")
    return sae.load(device)
