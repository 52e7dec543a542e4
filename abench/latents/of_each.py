"""One result per SAE of a group, computed in a shared forward pass of the model."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, Self, TypeVar

from abench.errors import UserError
from abench.latents.anyones import usable
from abench.latents.views import SplitSAE, base_of
from abench.sae import SAE


class OfPoles(Protocol):
    """A result about the poles of an SAE's latents."""

    def split(self) -> Self:
        """The same result for the SAE in the split view."""


Poles = TypeVar("Poles", bound=OfPoles)


class OfEach(Generic[Poles]):
    """One result per SAE of a group. Requesting the result of an SAE that failed raises that SAE's error."""

    def __init__(self) -> None:
        self._results: dict[Any, Poles] = {}
        self._errors: dict[Any, Exception] = {}

    def __repr__(self) -> str:
        failed = f", {len(self._errors)} failed" if self._errors else ""
        return f"OfEach({len(self._results)} SAEs{failed})"

    def taken(self, saes: Iterable[Any]) -> tuple[Any, ...]:
        """The different ones of some SAEs, those of unknown classes as `as_sae` makes them.

        An object that is no SAE fails, and is left out.
        """
        taken = []
        for sae in dict.fromkeys(saes):
            try:
                taken.append(usable(sae))
            except UserError as error:
                self.fail(sae, error)
        return tuple(taken)

    def keep(self, sae: SAE, result: Poles) -> None:
        self._results[sae] = result

    def fail(self, sae: SAE, error: Exception) -> None:
        self._errors[sae] = error

    def failed(self, sae: SAE) -> bool:
        return sae in self._errors

    def __contains__(self, sae: SAE) -> bool:
        """Whether there is a result or an error for an SAE, in either view."""
        base = base_of(sae)
        return base in self._results or base in self._errors

    def attempt(self, sae: SAE, work: Callable[[Any], None]) -> None:
        """Do one SAE's part of a shared pass; its exception is stored and does not affect other SAEs."""
        if self.failed(sae):
            return
        try:
            work(sae)
        except Exception as error:
            self.fail(sae, error)

    def __call__(self, sae: SAE) -> Poles:
        """The result of an SAE, in the SAE's view; raises the SAE's own error if it failed."""
        base = base_of(sae)
        if base in self._errors:
            raise self._errors[base]
        result = self._results[base]
        return result.split() if isinstance(sae, SplitSAE) else result
