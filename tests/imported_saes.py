"""SAEs as sae-lens folders: sae-lens's own object of a folder, and what abench reads from it."""

from pathlib import Path
from typing import Any, NamedTuple

from sae_lens import SAE, TrainingSAE

from abench.importing import read_sae


class Imported(NamedTuple):
    """One SAE that was saved as a sae-lens folder."""

    theirs: Any
    """As `sae_lens.SAE.load_from_disk` returns it."""
    ours: Any
    """As `abench run --sae` reads it."""


def imported(sae: Any, folder: Path) -> Imported:
    """An SAE saved to a folder and read by both."""
    (sae.save_inference_model if isinstance(sae, TrainingSAE) else sae.save_model)(folder)
    return Imported(SAE.load_from_disk(folder), read_sae(folder).load())
