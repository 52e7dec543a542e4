"""Local files: the one that is named is read, and its values are what it says."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import abench
from abench import UserError
from abench.config import DataSpec
from abench.data.rows import FILE_ENDINGS, FileRows, load_file, read_file, text_in
from abench.data.texts import texts
from abench.lm.models import LanguageModel
from abench.tinyworld import MODEL_DIR

ENDINGS = [*sorted(FILE_ENDINGS - {".gz"}), ".jsonl.gz", ".json.gz", ".csv.gz", ".txt.gz"]
ROWS = [{"text": f"text {number}", "other": str(number)} for number in range(2500)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the format of the path's ending."""
    if path.suffix == ".gz":
        plain = write(path.with_suffix(""), rows)
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
        return path
    frame = pd.DataFrame(rows)
    writers: dict[str, Callable[[], Any]] = {
        ".jsonl": lambda: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
        ".json": lambda: path.write_text(json.dumps(rows, indent=1)),
        ".csv": lambda: frame.to_csv(path, index=False),
        ".parquet": lambda: frame.to_parquet(path, row_group_size=700),
        ".txt": lambda: path.write_text("".join(row["text"] + "\n" for row in rows)),
    }
    writers[path.suffix]()
    return path


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Which file


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ["shard[1]", "sh?rd1", "shard*", "**", "{shard1}", "~", "https:__x"])
def test_a_name_is_no_pattern(tmp_path: Path, name: str, ending: str) -> None:
    write(tmp_path / f"shard1{ending}", [{"text": "of another file"}])
    path = write(tmp_path / f"{name}{ending}", [{"text": "of this file"}])
    assert load_file(path)["text"] == ["of this file"]
    data = DataSpec(source="file", dataset=str(path), held_out_documents=1)
    assert list(texts(data, "held_out")) == ["of this file"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_file_is_not_replaced_by_one_its_name_matches(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"shard1{ending}", ROWS[:3])
    with pytest.raises(UserError, match=r"shard\[1\].* does not exist"):
        load_file(tmp_path / f"shard[1]{ending}")


@pytest.mark.parametrize(
    "name", ["a" * 300 + ".csv", "a\0.csv", "a.tsv", "a.gz", "a.parquet.gz", "folder.csv"]
)
def test_what_is_no_data_file_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"does not exist|abench reads"):
        load_file(tmp_path / name)


def test_a_folder_here_is_not_read_in_place_of_the_hub_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "train.jsonl", ROWS[:3])
    (tmp_path / "me").mkdir()
    (tmp_path / "train.jsonl").rename(tmp_path / "me" / "train.jsonl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    for streaming in (True, False):
        with pytest.raises(
            UserError, match="the data set me is not read: the current folder has a file or folder"
        ):
            abench.load_hub_split("me", "train", streaming=streaming)


# What is in it


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("start", [0, 1, 699, 700, 1399, 1400, 2499, 2500, 9999])
def test_reading_starts_at_any_row(tmp_path: Path, ending: str, start: int) -> None:
    path = write(tmp_path / f"rows{ending}", ROWS)
    assert [row["text"] for row in read_file(path, start=start)] == [r["text"] for r in ROWS[start:]]


AS_WRITTEN = ["NA", "null", "nan", "", "000123", "1e5", "1.50", "True", "2020-01-01", "-", "  x ", "a\nb"]
AS_WRITTEN += ['a"b', "ä€😀"]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet"])
def test_nothing_is_taken_for_something_else(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"rows{ending}", [{"text": text, "n": "1"} for text in AS_WRITTEN])
    assert load_file(path)["text"] == AS_WRITTEN


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_byte_order_marks(tmp_path: Path, end: str, mark: str, last: bool) -> None:
    lines = {
        "a.csv": ["text,n", "one,1", "\u2028two\u0085,2", "", '"three",3'],
        "a.jsonl": ['{"text": "one"}', '{"text": "\u2028two\u0085"}', " ", '{"text": "three"}'],
        "a.json": ["[", '{"text": "one"},', '{"text": "\u2028two\u0085"},', '{"text": "three"}]'],
        "a.txt": ["one", "\u2028two\u0085", "three"],
    }
    for name, content in lines.items():
        path = file(tmp_path, name, mark + end.join(content) + (end if last else ""))
        assert load_file(path)["text"] == ["one", "\u2028two\u0085", "three"]


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "a"}, {"text": "b"}]',
        '{"text": ["a", "b"]}',
        '{"text": {"0": "a", "1": "b"}}',
        '{\n"text": ["a", "b"]\n}',
        '{"text": "a"}\n{"text": "b"}\n',
    ],
)
def test_shapes_of_json(tmp_path: Path, content: str) -> None:
    assert load_file(file(tmp_path, "a.json", content))["text"] == ["a", "b"]


def test_one_object_is_one_row(tmp_path: Path) -> None:
    for content in ('{"text": "a"}', '{\n"text": "a"\n}'):
        assert list(load_file(file(tmp_path, "a.json", content))) == [{"text": "a"}]


def test_long_fields_are_read(tmp_path: Path) -> None:
    long = "x" * 300_000
    path = write(tmp_path / "a.csv", [{"text": long}])
    assert load_file(path)["text"] == [long]


def test_rows_without_a_value_have_none(tmp_path: Path) -> None:
    path = file(tmp_path, "a.csv", "text,n\none\ntwo,2\n")
    assert load_file(path)["n"] == [None, "2"]
    path = file(tmp_path, "a.jsonl", '{"n": 1}\n{"text": null}\n{"text": "a", "n": 2}\n')
    rows = load_file(path)
    assert rows["text"] == [None, None, "a"] and rows.column_names == ["n", "text"]
    assert isinstance(rows, FileRows) and rows[-1] == {"n": 2, "text": "a"} and len(rows[1:]) == 2
    assert text_in(rows[1], "text", where="a", number=2) == ""


def test_texts_no_encoding_has_do_not_stop_the_tokenizer(tmp_path: Path) -> None:
    odd = [r"\ud800", r"a\udc00b", r"\u0000", r"\ud83d\ude00", r"\ud800\ud83d\ude00", r"\uffff", r"\uD800"]
    path = file(tmp_path, "a.jsonl", "".join(f'{{"text": "{text}"}}\n' for text in odd))
    found = load_file(path)["text"]
    assert found == ["�", "a�b", "\0", "😀", "�😀", "\uffff", "�"]
    LanguageModel.load(MODEL_DIR, name="tiny").token_ids(found)


# What is wrong with it


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', "row 2 is not JSON: Expecting value"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', r"row 2 is a list, not an object of columns: \[1\]"),
        ("a.jsonl", '{"text": ' + "9" * 5000 + "}", "row 1 is not usable JSON"),
        ("a.jsonl", "[" * 100_000, "something is nested too deeply"),
        ("a.json", "[" * 100_000, "something is nested too deeply"),
        ("a.json", '["a"]', "row 1 is a text, not an object of columns: a"),
        ("a.json", "3", "it is not an array of objects"),
        ("a.json", "", "it is not JSON"),
        ("a.json", '{"text": ["a", "b"], "n": [1]}', "its columns differ in length"),
        ("a.csv", "text,n\na,1\nb,2,3\n", "row 2 has 3 values for 2 columns"),
        ("a.csv", "text,text\na,1\n", "it has the column 'text' twice"),
        ("a.csv", 'text,n\n"a,1\n', "row 1 is not CSV: unexpected end of data"),
        ("a.csv", b"text\n\xff\xfe\n", "it is not UTF-8"),
        ("a.txt", b"\xff\xfea\0", "it is not UTF-8"),
        ("a.jsonl", b'{"text": "\xff"}', "it is not UTF-8"),
        ("a.jsonl.gz", b'{"text": "a"}', "it is damaged or incomplete .*Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}', mtime=0)[:-9], "it is damaged or incomplete"),
        ("a.csv.gz", gzip.compress(b"text\n\xff\n", mtime=0), "it is not UTF-8"),
        ("a.parquet", b"PAR1", "Parquet file size is 4 bytes"),
        ("a.parquet", b"", "Parquet file size is 0 bytes"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(
    tmp_path: Path, name: str, content: str | bytes, sentence: str
) -> None:
    path = file(tmp_path, name, content)
    with pytest.raises(UserError, match=f"the data file .*/{name} cannot be read: {sentence}") as raised:
        load_file(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (3, "row 2 has a number instead of text in column 'text': 3"),
        (1.5, "row 2 has a number instead of text in column 'text': 1.5"),
        (True, "row 2 has a Boolean instead"),
        (["a"], "row 2 has a list instead of text in column 'text': "),
        ({"a": 1}, "row 2 has a mapping instead"),
    ],
)
@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_other_than_text_is_named_with_file_row_and_column(
    tmp_path: Path, ending: str, value: object, sentence: str
) -> None:
    path = write(tmp_path / f"a{ending}", [{"text": "a"}, {"text": value}, {"text": "b"}])
    for held_out, part in ((1, "train"), (3, "held_out")):
        data = DataSpec(source="file", dataset=str(path), held_out_documents=held_out)
        with pytest.raises(UserError, match=f"{path}: {sentence}"):
            list(texts(data, part))  # type: ignore[arg-type]


def test_parquet_with_numbers_or_bytes_for_text(tmp_path: Path) -> None:
    for value, kind in ((3, "a number"), (b"a", "bytes"), ([1], "a list")):
        path = write(tmp_path / "a.parquet", [{"text": value}])
        data = DataSpec(source="file", dataset=str(path), held_out_documents=1)
        with pytest.raises(UserError, match=f"row 1 has {kind} instead of text"):
            list(texts(data, "held_out"))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS[:2])
    data = DataSpec(source="file", dataset=str(path), column="txt", held_out_documents=1)
    with pytest.raises(UserError, match="has no column 'txt'; row 2 has other, text"):
        list(texts(data, "train"))
