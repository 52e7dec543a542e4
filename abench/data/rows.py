"""Rows of local files: exactly the given file, and its values exactly as written."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, overload

from abench.errors import UserError, outside_cause

Row = Mapping[str, Any]

_LONGEST_FIELD = 2**31 - 1
"""Maximum characters of a CSV field: the largest limit that Python's reader accepts on every platform."""
_COMPRESSED = ".gz"
_PARQUET_ROWS = 1024
"""Rows of a parquet file decoded at once."""


class FileRows(Sequence[Row]):
    """All rows of a file, in memory: by number, or a whole column by name. Missing values are None."""

    def __init__(self, rows: Iterable[Row]) -> None:
        found = list(rows)
        self.column_names = list(dict.fromkeys(name for row in found for name in row))
        """The columns of all rows, in order of first appearance; every row has all of them."""
        whole = len(self.column_names)
        self._rows = [r if len(r) == whole else {**dict.fromkeys(self.column_names), **r} for r in found]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"FileRows({len(self)} rows with the columns {', '.join(self.column_names) or 'none'})"

    @overload
    def __getitem__(self, which: int) -> Row: ...
    @overload
    def __getitem__(self, which: slice) -> list[Row]: ...
    @overload
    def __getitem__(self, which: str) -> list[Any]: ...
    def __getitem__(self, which: int | slice | str) -> Row | list[Row] | list[Any]:
        if isinstance(which, str):
            return [row[which] for row in self._rows]
        return self._rows[which]


def load_file(path: str | Path) -> FileRows:
    """All rows of a local file; see `read_file`, which raises the same errors."""
    return FileRows(read_file(path))


def read_file(path: str | Path, *, start: int = 0) -> Iterator[Row]:
    """Iterate over the rows of a .jsonl, .json, .csv, .parquet or .txt file (column `text`: its lines).

    All but parquet files may be compressed (.jsonl.gz).

    The path is not a pattern; exactly this file is read. Values are those of the file: in a CSV all values
    are text, an empty field is an empty text, and nothing is parsed as a number, a date or a missing value.
    Lone surrogates, which no encoding can represent, become U+FFFD. The first `start` rows are skipped,
    cheaply if the format allows it. Files are UTF-8, with or without a byte order mark; any line endings.

    Raises UserError at once for another file extension and for a missing file, and during the iteration for
    a row that cannot be read, with its number (from 1, without the header of a CSV).
    """
    path = Path(path)
    if _format(path) not in _READERS:
        raise UserError(f"{path}: abench reads {', '.join(sorted(_READERS))} files, and .gz files of text")
    if not _is_file(path):
        raise UserError(f"the data file {path} does not exist")
    return _read(path, start)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # Not a valid file name.
        return False


def text_in(row: Row, column: str, *, where: str, number: int) -> str:
    """The text in a column of a row; None becomes an empty text.

    Raises UserError if the row has no such column or its value is not text. `where` names the data and
    `number` the row (from 1) in the message.
    """
    if column not in row:
        raise UserError(f"{where} has no column '{column}'; row {number} has {', '.join(sorted(row))}")
    value = row[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(
            f"{where}: row {number} has {_kind(value)} instead of text in column '{column}': {value!s:.80}"
        )
    return value


def _kind(value: object) -> str:
    names: dict[type, str] = {str: "a text", bool: "a Boolean", int: "a number", float: "a number"}
    names |= {list: "a list", dict: "a mapping"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), type(value).__name__)


def _read(path: Path, start: int) -> Iterator[Row]:
    with _sentences(path):
        yield from _READERS[_format(path)](path, start)


def _format(path: Path) -> str:
    """The extension that states a file's format: `.jsonl` of `texts.jsonl.gz`."""
    inner = Path(path.stem).suffix
    return inner if path.suffix == _COMPRESSED and inner != ".parquet" else path.suffix


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn errors while a file is read into a UserError of one sentence."""
    try:
        yield
    except _BadRow as error:
        raise UserError(f"the data file {path} cannot be read: {error}") from error
    except UnicodeError as error:
        raise UserError(f"the data file {path} cannot be read: it is not UTF-8 ({error})") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"the data file {path} cannot be read: it is damaged or incomplete ({error})"
        ) from error
    except (OSError, MemoryError, RecursionError) as error:
        raise UserError(f"the data file {path} cannot be read: {outside_cause(error)}") from error


class _BadRow(Exception):  # noqa: N818 - a clause of the sentence that `_sentences` writes
    """A row that cannot be read; the message is a clause that names it."""


def _text_stream(path: Path, newline: str | None = None) -> IO[str]:
    if path.suffix == _COMPRESSED:
        return gzip.open(path, "rt", encoding="utf-8-sig", newline=newline)
    return path.open(encoding="utf-8-sig", newline=newline)


def _lines(path: Path, start: int) -> Iterator[Row]:
    with _text_stream(path) as stream:
        for line in islice(stream, start, None):
            yield {"text": line.removesuffix("\n")}


def _json_lines(path: Path, start: int) -> Iterator[Row]:
    with _text_stream(path) as stream:
        written = (line for line in stream if not line.isspace())
        for number, line in enumerate(islice(written, start, None), start + 1):
            yield _row_of(_parsed(line, f"row {number}"), number)


def _json(path: Path, start: int) -> Iterator[Row]:
    """Rows of an array of objects, of columns (name -> array), or of one object per line."""
    if _is_json_lines(path):
        yield from _json_lines(path, start)
        return
    with _text_stream(path) as stream:
        content = _parsed(stream.read(), "it")
    if isinstance(content, dict):
        content = _from_columns(content)
    if not isinstance(content, list):
        raise _BadRow("it is not an array of objects")
    for number, value in enumerate(content[start:], start + 1):
        yield _row_of(value, number)


def _is_json_lines(path: Path) -> bool:
    """Whether the first non-blank line is a complete object, but not an object of columns."""
    with _text_stream(path) as stream:
        first = next((line for line in stream if not line.isspace()), "")
        more = any(not line.isspace() for line in stream)
    if not first.lstrip().startswith("{"):
        return False
    try:
        content = json.loads(first)
    except ValueError:
        return False
    return more or not all(isinstance(value, list | dict) for value in content.values())


def _from_columns(columns: Mapping[str, Any]) -> list[Row]:
    """Rows of `{name: [values]}` or `{name: {row: value}}`, as pandas writes them; else the object itself."""
    arrays = {n: list(v.values()) if isinstance(v, dict) else v for n, v in columns.items()}
    if not arrays or not all(isinstance(values, list) for values in arrays.values()):
        return [columns]
    if len({len(values) for values in arrays.values()}) > 1:
        raise _BadRow("its columns differ in length")
    return [dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)]


def _parsed(text: str, what: str) -> Any:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise _BadRow(f"{what} is not JSON: {error.msg} at character {error.pos + 1}") from error
    except ValueError as error:
        # An integer of thousands of digits.
        raise _BadRow(f"{what} is not usable JSON: {error}") from error
    return _whole(content) if "\\ud" in text or "\\uD" in text else content


def _whole(value: Any) -> Any:
    """The value with lone surrogates, which only JSON escapes can introduce, replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return {_whole(k): _whole(v) for k, v in value.items()} if isinstance(value, dict) else value


def _row_of(value: Any, number: int) -> Row:
    if not isinstance(value, dict):
        raise _BadRow(f"row {number} is {_kind(value)}, not an object of columns: {value!s:.80}")
    return value


def _csv(path: Path, start: int) -> Iterator[Row]:
    # The limit is global to the process; many documents exceed the default.
    csv.field_size_limit(_LONGEST_FIELD)
    with _text_stream(path, newline="") as stream:
        rows = _records(csv.reader(stream, strict=True))
        names = next(rows, [])
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise _BadRow(f"it has the column '{repeated[0]}' twice")
        for number, values in enumerate(islice(rows, start, None), start + 1):
            if len(values) > len(names):
                raise _BadRow(f"row {number} has {len(values)} values for {len(names)} columns")
            yield dict.fromkeys(names) | dict(zip(names, values, strict=False))


def _records(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """The records of a CSV file, its header first, without blank lines."""
    number = 0
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise _BadRow(f"{f'row {number}' if number else 'its header'} is not CSV: {error}") from error
        if values is None:
            return
        if values:
            number += 1
            yield values


def _parquet(path: Path, start: int) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet  # comes with datasets

    try:
        # An open file, because pyarrow could interpret a name as a URL.
        with path.open("rb") as stream, pyarrow.parquet.ParquetFile(stream) as file:
            groups, skip = _groups_from(file, start)
            for batch in file.iter_batches(_PARQUET_ROWS, row_groups=groups) if groups else ():
                yield from batch.slice(skip).to_pylist()
                skip = max(0, skip - batch.num_rows)
    except pyarrow.ArrowException as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _BadRow(cause.rstrip(" .")) from error


def _groups_from(file: Any, start: int) -> tuple[list[int], int]:
    """The row groups from the one that contains row `start` on, and how many of its rows to skip."""
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if start < rows:
            return list(range(group, file.num_row_groups)), start
        start -= rows
    return [], 0


_READERS: Mapping[str, Callable[[Path, int], Iterator[Row]]] = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".txt": _lines,
}
FILE_ENDINGS = frozenset({*_READERS, _COMPRESSED})
"""Extensions of the files that `read_file` and `load_file` read."""
