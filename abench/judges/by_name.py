"""An option of a task that takes the names of judges, and the judges of one's own by name."""

from __future__ import annotations

from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from abench.errors import UserError, did_you_mean, short
from abench.identity import NamesPlugin, code_identity
from abench.judges.exchange import Judge
from abench.judges.own import OwnJudge, OwnPoleJudge, PluginJudge
from abench.judges.poles import PoleJudge


class JudgeOption(NamesPlugin):
    """Marks a task's option that takes one of some words or the name of a judge of your own.

    `judge: Annotated[str, JudgeOption("auto", "substring")] = "auto"`; `own_judge` returns the judge. The
    option may also be a tuple of names. A word that ends in a colon stands for all names that begin with it,
    `openai:` for `openai:MODEL`. `of` is the base class of the judges that the task can ask, `OwnJudge` or
    `OwnPoleJudge`.
    """

    def __init__(self, *words: str, of: type[Any] = OwnJudge) -> None:
        self.words = words
        self._of = of

    def identity(self, name: str | tuple[str, ...]) -> str | None:
        """See NamesPlugin."""
        from abench.judges.registry import judge_class

        own: list[type[PluginJudge]] = [judge_class(n) for n in _names(name) if not self._is_word(n)]
        parts = [part for each in own for pair in code_identity(each).items() for part in pair]
        return " ".join(parts) if own else None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def _is_word(self, name: str) -> bool:
        return name in self.words or any(
            name.startswith(word) and name != word for word in self.words if word.endswith(":")
        )

    def _known(self, value: Any) -> Any:
        for name in _names(value):
            if not self._is_word(name):
                self._check(name)
        return value

    def _check(self, name: str) -> None:
        """Raise ValueError unless a usable judge of this option's kind has the name."""
        from abench.judges.registry import find_judges

        own = {each.name: each for each in find_judges().values() if each.source != "abench.judges"}
        if name not in own:
            words = [word for word in self.words if not word.endswith(":")]
            near = did_you_mean(name, [*words, *own])
            raise ValueError(
                f"there is no judge {short(name)}{near} (a judge of your own: see `abench list judges`)"
            )
        found = own[name].value
        if found is None:
            raise ValueError(f"the judge {short(name)} ({own[name].source}) {own[name].refusal}")
        if fault := _other_kind(name, found, self._of):
            raise ValueError(fault)


def own_judge(name: str) -> Judge:
    """The judge of replies of a package or folder with this name, with its default options.

    Raises UserError if there is none, if it cannot be used, or if it judges something else.
    """
    judge: OwnJudge = _made(name, OwnJudge)
    return judge


def own_pole_judge(name: str) -> PoleJudge:
    """The judge of latents of a package or folder with this name; otherwise as `own_judge`."""
    judge: OwnPoleJudge = _made(name, OwnPoleJudge)
    return judge


def _made(name: str, of: type[Any]) -> Any:
    from abench.judges.registry import judge_class

    found = judge_class(name)
    if fault := _other_kind(name, found, of):
        raise UserError(fault)
    return found()


def _other_kind(name: str, found: type[Any], of: type[Any]) -> str | None:
    """Why a judge cannot be asked, if it is not of the kind that a task needs."""
    if issubclass(found, of):
        return None
    judges = getattr(found, "judges", "replies")
    return (
        f"the judge {short(name)} judges {judges}, and a judge of {of.judges} is needed: derive it from "
        f"abench.judges.{of.__name__}"
    )


def _names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
