"""`read_sae`: from a path or a hub id to the record of an SAE."""

from functools import partial
from pathlib import Path

from abench.errors import UserError
from abench.importing import building
from abench.importing.identity import identity_of
from abench.importing.imported import ImportedSAE
from abench.importing.locating import Located, locate
from abench.importing.parsed import Parsed
from abench.importing.placing import place_of
from abench.importing.signedness import can_be_negative
from abench.names import safe_name
from abench.sae import SAE


def read_sae(name_or_path: str | Path) -> ImportedSAE:
    """The record of the SAE in a folder, in a file of weights, or on the hub.

    On the hub an SAE is `owner/repository`, `owner/repository/folder`, or `release/sae_id` of sae-lens's
    directory. All its weights are read and checked; `ImportedSAE.load` gives the SAE itself. Raises UserError
    if there is no SAE of a known format, or if its files are damaged, contradict each other, hold values that
    are not finite, or belong to an architecture that abench cannot score.
    """
    source = str(name_or_path)
    located = locate(source)
    parsed = located.parse()
    empty = building.checked(parsed)
    place = place_of(parsed.hook, parsed.layer, reads_input=parsed.reads_input)
    settings = parsed.settings
    identity = identity_of(located.format, parsed)
    normalisation = settings.get("normalize_activations", "none")
    return ImportedSAE(
        name=parsed.name or safe_name(located.name),
        source=source,
        format=located.format.name,
        sae_class=type(empty).__name__,
        d_in=settings["d_in"],
        width=settings["d_sae"],
        identity=identity,
        site=place.site,
        model=parsed.model,
        k=parsed.k,
        l0=parsed.l0,
        context=parsed.context,
        normalisation=None if normalisation == "none" else normalisation,
        prepends_bos=parsed.prepends_bos,
        signed=can_be_negative(empty),
        notes=tuple(note for note in (place.note, *parsed.notes, _precision_note(parsed)) if note),
        loader=partial(_load, located, identity),
    )


def _load(located: Located, identity: str, device: str) -> SAE:
    parsed = located.parse()
    if identity_of(located.format, parsed) != identity:
        raise UserError(f"{located.name} changed after it was read: run the same command again")
    sae: SAE = building.build(parsed, device)
    return sae


def _precision_note(parsed: Parsed) -> str | None:
    types = sorted(
        {str(t.dtype).removeprefix("torch.") for t in parsed.state.values() if t.is_floating_point()}
    )
    return (
        None
        if types == ["float32"]
        else f"Its weights are {' and '.join(types)}; abench computes in float32."
    )
