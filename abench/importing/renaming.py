"""Tensors under the names and in the orientation of sae-lens, from the names of another library."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from abench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Renaming:
    """Which tensors of a file an SAE consists of."""

    same: Mapping[str, str]
    """Name in sae-lens -> name in the file, for tensors that are used as they are."""
    transposed: Mapping[str, str]
    """The same for matrices that the file holds transposed, as `torch.nn.Linear` does."""
    unused: Collection[str] = ()
    """Tensors that do not change what the SAE computes, or that the reader uses itself."""

    def names(self) -> dict[str, str]:
        """Name in sae-lens -> name in the file."""
        return {**self.transposed, **self.same}

    def applied(self, weights: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
        """The tensors under their names in sae-lens. Raises UserError if one is missing or none of these."""
        names = self.names()
        for name in names.values():
            if name not in weights:
                raise UserError(f"{file} has no tensor '{name}'{did_you_mean(name, weights)}")
        strange = sorted(set(weights) - set(names.values()) - set(self.unused))
        if strange:
            raise UserError(
                f"{file} has a tensor '{strange[0]}', which an SAE of its configuration's class has not; "
                f"it has {', '.join(sorted(names.values()))}"
            )
        return {
            name: weights[theirs].T if name in self.transposed else weights[theirs]
            for name, theirs in names.items()
        }
