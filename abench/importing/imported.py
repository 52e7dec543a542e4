"""The record of an SAE that abench did not train: what its files state, and how to load it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from abench.sae import SAE

IN_MEMORY = "object"
"""The format of an SAE that is an object in memory."""


@dataclass(frozen=True)
class Promise:
    """What an SAE's configuration states about what it does."""

    k: int | None = None
    """Active latents per token."""
    l0: float | None = None
    """The L0 that was recorded."""

    @property
    def active(self) -> float | None:
        """The promised number of active latents; what was measured counts more than what was intended."""
        return self.k if self.l0 is None else self.l0


@dataclass(frozen=True)
class ImportedSAE:
    """An SAE of another library or results folder. What its files do not state is None."""

    name: str
    """A name for tables and paths, made from the folder or the hub id."""
    source: str
    """The path or hub id that it was read from."""
    format: str
    """The layout of its files, e.g. `sae-lens`."""
    sae_class: str
    """The class that the SAE has after loading, e.g. `TopKSAE`."""
    d_in: int
    width: int
    identity: str
    """sha256 over weights and configuration (64 hex digits), independent of where the files are."""
    site: str | None = None
    """abench's name of the place in the model that the SAE reads."""
    model: str | None = None
    """The language model, as its files name it."""
    k: int | None = None
    """Active latents per token: exactly, or on average."""
    l0: float | None = None
    """The L0 that was measured and recorded with it."""
    context: int | None = None
    """Tokens per context of the text that it was trained on."""
    normalisation: str | None = None
    """How it normalises each token before encoding, in sae-lens's terms."""
    prepends_bos: bool | None = None
    """Whether the text that it was trained on began with BOS."""
    signed: bool | None = None
    """Whether its class can give codes below 0."""
    notes: tuple[str, ...] = ()
    """Sentences about what was understood of its files in other than the obvious way."""
    loader: Callable[[str], SAE] = field(repr=False, compare=False, kw_only=True)
    """What `load` calls with the device."""

    @property
    def place(self) -> str | None:
        """The absolute path or hub id from which it can be read again; None for an object in memory."""
        if self.format == IN_MEMORY:
            return None
        path = Path(self.source)
        return str(path.resolve()) if path.exists() else self.source

    @property
    def promised(self) -> Promise:
        """What `abench.importing.findings` compares with what is measured."""
        return Promise(self.k, self.l0)

    def load(self, device: str = "cpu") -> SAE:
        """The SAE in float32 on a device, with frozen weights.

        Raises UserError if its files have changed since they were read.
        """
        return self.loader(device)
