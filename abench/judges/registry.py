"""Judges by name: those that come with abench, of installed packages and of folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from abench.declaration import is_printable, option_problems
from abench.discovery import Found, Kind, chosen, existing_folder, find
from abench.judges.harmbench import HarmBenchClassifier
from abench.judges.openai_judge import OpenAIJudge
from abench.judges.oracle import TinyWorldOracle
from abench.judges.own import PluginJudge
from abench.judges.substring import SubstringJudge
from abench.names import NAME_LENGTH, name_problem

FoundJudge = Found[type[Any]]

_OWN: dict[str, type[Any]] = {
    "tinyworld": TinyWorldOracle,
    "substring": SubstringJudge,
    "harmbench": HarmBenchClassifier,
    "openai": OpenAIJudge,
}
"""The judges that come with abench, by the names that tasks use."""
_RESERVED = {
    "auto": "the word with which tasks choose a judge themselves",
    "oracle": "the tiny world's own judge of latents",
    "lexical": "the judge of latents that compares words",
}
"""Words that options take in place of the name of a judge, although no judge is listed under them."""
_folders: list[Path] = []
"""The folders in which judges are looked for in this process: those of the runs that it has planned."""


def use_judges_in(folders: Sequence[Path]) -> None:
    """Let tasks in this process use the judges in these folders, too.

    Raises UserError for a folder that does not exist, before any is used.
    """
    there = [existing_folder(folder) for folder in folders]
    _folders.extend(folder for folder in there if folder not in _folders)


def find_judges(folders: Sequence[Path] = ()) -> dict[str, FoundJudge]:
    """All judges by name: abench's own, those of packages, then those in folders (`use_judges_in` as well).

    The names of abench's own cannot be taken. Raises UserError for a folder that does not exist.
    """
    first = [Found(name, "abench.judges", each) for name, each in _OWN.items()]
    return find(JUDGES, [*dict.fromkeys([*_folders, *folders])], first=first, fixed=taken_names())


def judge_class(name: str) -> type[Any]:
    """The class of a judge. Raises UserError if there is none of this name or if it cannot be used."""
    return chosen(JUDGES, name, find_judges())


def taken_names() -> frozenset[str]:
    """The names that no judge of your own can have."""
    return frozenset({*_OWN, *_RESERVED})


def judge_problems(judge: type[Any]) -> list[str]:
    """All problems of the declaration of a judge, one sentence each; empty if it is valid."""
    try:
        return list(_problems(judge))
    except Exception as error:
        # The class is third-party code: its attributes may have any value, and reading them may fail.
        return [f"its declaration cannot be read: {type(error).__name__}: {error}"]


def _problems(judge: Any) -> Iterator[str]:
    for name in ("name", "version", "judges"):
        if name in judge.model_fields:
            yield f"{name} is an option instead of a class variable; annotate it as ClassVar"
            return
    if problem := name_problem(getattr(judge, "name", None)):
        yield f"its name: {problem}"
    elif judge.name in _RESERVED:
        yield f"its name: '{judge.name}' is {_RESERVED[judge.name]}"
    version = judge.version
    if version is not None and not (
        isinstance(version, str) and 0 < len(version) <= NAME_LENGTH and is_printable(version)
    ):
        yield f'its version must be None or text such as "1", not {version!r:.80}'
    if required := [name for name, field in judge.model_fields.items() if field.is_required()]:
        yield f"its option {required[0]} needs a default, because tasks use judges with their defaults"
    yield from option_problems(judge)


JUDGES: Kind[type[Any]] = Kind("judge", "abench.judges", PluginJudge, judge_problems)
