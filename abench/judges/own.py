"""Judges that do not come with abench: their base class, and an option of a task that takes their names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, get_args

from pydantic import ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from abench.config.spec import Spec
from abench.errors import UserError, did_you_mean, short
from abench.identity import NamesPlugin, code_identity
from abench.judges.exchange import Exchange, Judge, Verdict


class OwnJudge(Spec, ABC):
    """A judge of your own: a subclass with a name and `verdicts`; its fields are options with defaults.

    It is found in a folder (`--plugins`) or a package (entry point `abench.judges`), and tasks take its name.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: ClassVar[str]
    version: ClassVar[str | None] = None
    """Raise it whenever the verdicts change. Without it, keys contain a hash of the code."""

    @abstractmethod
    def verdicts(self, exchanges: Sequence[Exchange]) -> Sequence[Verdict]:
        """One verdict per exchange, in the same order."""

    def spec(self) -> dict[str, Any]:
        """See Judge: the name, the options, and the version or a hash of the code."""
        return {
            "judge": self.name,
            "options": self.model_dump(mode="json"),
            **code_identity(type(self)),
        }

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """See Judge. Raises UserError if `verdicts` does not return one verdict per exchange."""
        found = list(self.verdicts(exchanges))
        if len(found) != len(exchanges):
            raise UserError(
                f"the judge {self.name} returned {len(found):,} verdicts on {len(exchanges):,} replies"
            )
        if wrong := [each for each in found if each not in get_args(Verdict)]:
            known = ", ".join(get_args(Verdict))
            raise UserError(f"the judge {self.name} returned {short(wrong[0])}, which is none of {known}")
        return found


class JudgeOption(NamesPlugin):
    """Marks a task's option that takes one of some words or the name of an `OwnJudge`.

    `judge: Annotated[str, JudgeOption("auto", "substring")] = "auto"`; `own_judge` returns the judge.
    """

    def __init__(self, *words: str) -> None:
        self.words = words

    def identity(self, name: str) -> str | None:
        """See NamesPlugin."""
        if name in self.words:
            return None
        from abench.judges.registry import judge_class

        judge: type[OwnJudge] = judge_class(name)
        return " ".join(part for pair in code_identity(judge).items() for part in pair)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def _known(self, name: str) -> str:
        from abench.judges.registry import find_judges

        if name in self.words:
            return name
        found = find_judges()
        own = {each.name: each for each in found.values() if each.source != "abench.judges"}
        if name not in own:
            near = did_you_mean(name, [*self.words, *own])
            raise ValueError(
                f"there is no judge {short(name)}{near} (a judge of your own: see `abench list judges`)"
            )
        if own[name].value is None:
            raise ValueError(f"the judge {short(name)} ({own[name].source}) {own[name].refusal}")
        return name


def own_judge(name: str) -> Judge:
    """The judge of a package or folder with this name, with its default options.

    Raises UserError if there is none or if it cannot be used.
    """
    from abench.judges.registry import judge_class

    made: OwnJudge = judge_class(name)()
    return made
