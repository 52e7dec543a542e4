"""Judges that do not come with abench: their base classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

from pydantic import ConfigDict

from abench.config.spec import Spec
from abench.errors import UserError, short
from abench.identity import code_identity
from abench.judges.exchange import Exchange, Verdict
from abench.judges.poles import PoleKind, PoleVerdict

if TYPE_CHECKING:
    from abench.latents.excerpts import LatentContexts

T = TypeVar("T")


class PluginJudge(Spec, ABC):
    """What judges of your own have in common; derive yours from `OwnJudge` or `OwnPoleJudge`.

    The fields are options with defaults. A judge is found in a folder (`--plugins`) or a package (entry point
    `abench.judges`), and tasks take its name.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: ClassVar[str]
    judges: ClassVar[str]
    """What it judges, as in messages: replies or latents."""
    version: ClassVar[str | None] = None
    """Raise it whenever the verdicts change. Without it, keys contain a hash of the code."""

    def spec(self) -> dict[str, Any]:
        """The name, the options, and the version or a hash of the code."""
        return {
            "judge": self.name,
            "options": self.model_dump(mode="json"),
            **code_identity(type(self)),
        }

    @abstractmethod
    def judge(self, asked: Sequence[Any], /) -> list[Any]:
        """The checked verdicts."""


class OwnJudge(PluginJudge):
    """A judge of replies of your own: a subclass with a name and `verdicts`; see `PluginJudge`."""

    judges: ClassVar[str] = "replies"

    @abstractmethod
    def verdicts(self, exchanges: Sequence[Exchange]) -> Sequence[Verdict]:
        """One verdict per exchange, in the same order."""

    def judge(self, exchanges: Sequence[Exchange], /) -> list[Verdict]:
        """See Judge. Raises UserError if `verdicts` does not return one verdict per exchange."""
        found = _one_each(self, self.verdicts(exchanges), exchanges)
        if wrong := [each for each in found if each not in get_args(Verdict)]:
            known = ", ".join(get_args(Verdict))
            raise UserError(f"the judge {self.name} returned {short(wrong[0])}, which is none of {known}")
        return found


class OwnPoleJudge(PluginJudge):
    """A judge of a latent's two sides of your own: a subclass with a name and `verdicts`; see `PluginJudge`.

    A verdict must not depend on which side is called positive.
    """

    judges: ClassVar[str] = "latents"

    @abstractmethod
    def verdicts(self, latents: Sequence[LatentContexts]) -> Sequence[PoleVerdict | PoleKind]:
        """One verdict per latent, in the same order; its kind alone suffices."""

    def judge(self, latents: Sequence[LatentContexts], /) -> list[PoleVerdict]:
        """See PoleJudge. Raises UserError if `verdicts` does not return one verdict per latent."""
        return [_pole_verdict(self, each) for each in _one_each(self, self.verdicts(latents), latents)]


# Functions, because a judge of one's own may have methods of any name.


def _one_each(judge: PluginJudge, found: Sequence[T], asked: Sequence[Any]) -> list[T]:
    if len(found) != len(asked):
        raise UserError(
            f"the judge {judge.name} returned {len(found):,} verdicts on {len(asked):,} {judge.judges}"
        )
    return list(found)


def _pole_verdict(judge: PluginJudge, given: PoleVerdict | PoleKind) -> PoleVerdict:
    verdict = given if isinstance(given, PoleVerdict) else PoleVerdict(given)
    if verdict.kind not in get_args(PoleKind):
        known = ", ".join(get_args(PoleKind))
        raise UserError(f"the judge {judge.name} returned {short(verdict.kind)}, which is none of {known}")
    return verdict
