"""Harmful and harmless requests, in the parts that a steering experiment needs, and their prompt formats.

The tiny world generates its own requests. Otherwise harmful requests are HarmBench's (from the hub, or a CSV
with HarmBench's columns) without its copyright behaviours, which are judged by hashes, and harmless requests
are instructions. A file is divided into parts by a hash of each request; a folder has a file for each part,
as in github.com/andyrdt/refusal_direction: `harmful_train.json`, `harmful_val.json`, `harmful_test.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

from abench import FILE_ENDINGS, Amount, Context, Skip, UserError, load_file, load_hub_split, text_in
from abench.tinyworld import World

from .._shared.choices import has_chat
from .._shared.labelled import is_tiny
from .._shared.revisions import AS_THEY_ARE, Revisions

if TYPE_CHECKING:
    from abench import LanguageModel

RequestPart = Literal["train", "validation", "test"]
"""Concepts are found on `train`, settings are chosen on `validation`, results are reported on `test`."""

HARMBENCH = "walledai/HarmBench"
INSTRUCTIONS = "tatsu-lab/alpaca"
_SHARES = {"train": (0, 30), "validation": (30, 45), "test": (45, 100)}
"""Percentiles of a hash of the request's text that belong to each part."""
_ASKS = ("Behavior", "prompt", "instruction", "request")
_CONTEXTS = ("ContextString", "context")
_IN_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
"""The parts as the files of a folder name them."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Ask:
    """A request; `context` is the text that it refers to, if any."""

    text: str
    context: str = ""


@dataclass(frozen=True)
class Requests:
    """The requests of one part."""

    harmful: tuple[Ask, ...]
    harmless: tuple[Ask, ...]

    def amount(self, part: RequestPart, number: int, ctx: Context) -> Amount:
        """The number of available requests, out of the `number` requested for each kind."""
        found = len(self.harmful) + len(self.harmless)
        return Amount(f"{part} requests", found, 2 * _limited(number, ctx))


def requests(
    ctx: Context,
    part: RequestPart,
    number: int,
    *,
    harmful: str | None,
    harmless: str | None,
    revisions: Revisions = AS_THEY_ARE,
) -> Requests:
    """Up to `number` harmful and up to `number` harmless requests of a part.

    `harmful` and `harmless` are files, folders or hub ids; None means the tiny world's own, or HarmBench and
    Alpaca. Raises Skip if a part has fewer than two requests of a kind, and UserError if they cannot be read
    or are given for the tiny world.
    """
    number = _limited(number, ctx)
    if is_tiny(ctx):
        _refuse_files(harmful=harmful, harmless=harmless)
        seed = ctx.evaluation.seed
        each = [
            tuple(Ask(r.text) for r in World().requests(kind, part, number, seed=seed))
            for kind in (True, False)
        ]
    else:
        sources = {"harmful": harmful or HARMBENCH, "harmless": harmless or INSTRUCTIONS}
        each = [
            _from_folder(option, Path(source), part)[:number]
            if Path(source).is_dir()
            else _of_part(_read(option, source, revisions), part, number, source)
            for option, source in sources.items()
        ]
    return Requests(*each)


def _refuse_files(**given: str | None) -> None:
    """Raise UserError for requests that the tiny world would ignore: its judge knows only its own."""
    for option, source in given.items():
        if source is not None:
            raise UserError(
                f"safety_utility: the option {option} has no effect on the tiny world, whose requests are "
                "its own: leave it out, or use another model or text (data.source)"
            )


def _limited(number: int, ctx: Context) -> int:
    """The number of requests under the evaluation's limit; at least two."""
    limit = ctx.evaluation.limit
    return number if limit is None else min(number, max(2, limit))


def prompts(lm: LanguageModel, ctx: Context, asks: Sequence[Ask]) -> list[str]:
    """The requests as prompts: in the tiny world's format, as a chat, or unchanged."""
    texts = [f"{ask.context}\n\n{ask.text}" if ask.context else ask.text for ask in asks]
    if is_tiny(ctx):
        return [f"request: {text} reply:" for text in texts]
    if not has_chat(lm):
        return texts
    return [
        lm.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        for text in texts
    ]


def _of_part(asks: Sequence[Ask], part: RequestPart, number: int, source: str) -> tuple[Ask, ...]:
    low, high = _SHARES[part]
    found = [ask for ask in dict.fromkeys(asks) if low <= crc32(ask.text.encode()) % 100 < high]
    if len(found) < 2:
        raise Skip(
            f"the {part} part of {source} has {len(found)} of its {len(asks)} requests, which are too few: "
            "provide more"
        )
    return tuple(found[:number])


def _from_folder(option: str, folder: Path, part: RequestPart) -> tuple[Ask, ...]:
    """The requests of a part, from a folder that has a file for each part."""
    file = folder / f"{option}_{_IN_FOLDERS[part]}.json"
    if not file.is_file():
        names = ", ".join(f"{option}_{each}.json" for each in _IN_FOLDERS.values())
        raise UserError(
            f"safety_utility: {option}: the folder {folder} has no {file.name}; it must contain {names}, or "
            "give one file, which is divided into parts"
        )
    found = tuple(dict.fromkeys(_asks(_file(file), str(file))))
    if len(found) < 2:
        raise Skip(f"{file} has {len(found)} requests, which are too few: provide more")
    return found


def _read(option: str, source: str, revisions: Revisions) -> list[Ask]:
    if is_file(source):
        return _asks(_file(Path(source)), source)
    configs = ("standard", "contextual") if source == HARMBENCH else (None,)
    try:
        parts = [load_hub_split(source, "train", config, revisions.get(source)) for config in configs]
    except UserError as error:
        raise UserError(
            f"{error}. Alternatively use a file: --set task_options.safety_utility.{option}=PATH"
        ) from error
    return [ask for rows in parts for ask in _asks(rows, source)]


def is_file(source: str) -> bool:
    """Whether this source is a file or folder; otherwise it is a hub id."""
    return Path(source).suffix in FILE_ENDINGS or Path(source).is_dir()


def _file(path: Path) -> Rows:
    try:
        rows: Rows = load_file(path)
        return rows
    except UserError as error:
        raise UserError(f"safety_utility: {error}") from error


def _asks(rows: Rows, source: str) -> list[Ask]:
    names = list(rows[0]) if len(rows) else []
    ask = next((name for name in _ASKS if name in names), None)
    if ask is None:
        raise UserError(
            f"safety_utility: {source} has none of the columns {', '.join(_ASKS)}; it has {', '.join(names)}"
        )
    context = next((name for name in _CONTEXTS if name in names), None)
    text = partial(text_in, where=f"safety_utility: {source}")
    return [
        Ask(text(row, ask, number=number), text(row, context, number=number) if context else "")
        for number, row in enumerate(rows, 1)
        if _is_request(row, ask)
    ]


def _is_request(row: Mapping[str, Any], ask: str) -> bool:
    """Whether a row is used: not copyright, which is judged differently, and no additional input needed."""
    return bool(row.get(ask)) and row.get("FunctionalCategory") != "copyright" and not row.get("input")
