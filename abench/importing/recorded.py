"""Opening the SAE of a record: from its folder, or from where it was when abench scored it."""

from typing import Any

from abench.errors import UserError
from abench.results.records import SAERecord
from abench.storage.bundle import Bundle


def is_given(record: SAERecord) -> bool:
    """Whether a record is of an SAE that abench did not train, whose bundle holds nothing but the record."""
    return "given" in record.spec


def open_recorded_sae(place: Bundle, record: SAERecord, device: str = "cpu") -> Any:
    """The SAE (`abench.SAE`) of a record at a place in a store.

    Raises UserError if an SAE that abench did not train is no longer where it was, has changed, or was an
    object in memory.
    """
    if not is_given(record):
        from abench.variants import load_sae

        with place.local() as folder:
            return load_sae(folder, device=device)
    from abench.importing.reading import read_sae

    source, name = record.provenance.get("sae"), record.labels["variant"]
    if source is None:
        raise UserError(
            f"the SAE {name} was an object in memory, whose weights are not in the results folder: save it "
            "as a sae-lens folder and score that"
        )
    try:
        sae = read_sae(source)
    except UserError as error:
        raise UserError(f"the SAE {name} cannot be read again: {error}") from error
    if sae.identity != record.spec["given"]["identity"]:
        raise UserError(f"the SAE in {source} has changed since it was scored")
    return sae.load(device)
