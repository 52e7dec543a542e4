"""YAML is read as people mean it."""

import os
from pathlib import Path

import pytest

from abench.errors import UserError
from abench.yamlfile import parse, parse_mapping, read_mapping


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("3E4", 30000.0),
        ("1_000", 1000),
        ("-.5", -0.5),
        ("no", "no"),
        ("on", "on"),
        ("10:30", "10:30"),
        ("true", True),
        ("0o17", "0o17"),
        ("010", 10),
        ("~", None),
        ("2024", 2024),
        ("[1, 2.0, x]", [1, 2.0, "x"]),
    ],
)
def test_scalars(text: str, value: object) -> None:
    assert parse(text, "here") == value
    assert type(parse(text, "here")) is type(value)


def test_a_key_given_twice_is_an_error_with_both_lines() -> None:
    with pytest.raises(UserError, match=r"here:3: 'k' is given twice \(first on line 1\)"):
        parse("k: 1\nx: 2\nk: 3\n", "here")


def test_not_yaml_names_file_and_line() -> None:
    with pytest.raises(UserError, match=r"^run\.yaml:[23] is not valid YAML: "):
        parse("a: 1\nb: [1, 2\n", "run.yaml")


def test_a_file_must_hold_a_mapping(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("- a\n- b\n")
    with pytest.raises(UserError, match="must hold a mapping of keys to values, not a list"):
        read_mapping(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_mapping(tmp_path / "absent.yaml")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_mapping(file)


def test_the_place_of_a_key_path() -> None:
    document = parse_mapping("a: 1\ntraining:\n  tokens: 5\n  betas:\n    - 0.9\n    - 2\n", "run.yaml")
    assert document.place(("training", "tokens")) == "run.yaml:3"
    assert document.place(("training", "betas", 1)) == "run.yaml:6"
    assert document.place(("training", "absent")) is None
    assert document.place(("training", "betas", 2)) is None


DEEP = "[" * 1500 + "]" * 1500


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\n[1, 2]: 3", "here:2: a key must be text, not a sequence"),
        ("a: 1\n? {b: 1}\n: 3", "here:2: a key must be text, not a mapping"),
        ("1: 3", "here:1: a key must be text, not 1"),
        ("~: 3", "here:1: a key must be text, not None"),
        ("k: " + "9" * 5000, "here:1: a number of 5,000 digits is too long"),
        ("a: 1\nk: !!int abc", "here:2: tags such as tag:yaml.org,2002:int are not supported"),
        ("k: !!timestamp 1", "here:1: tags such as"),
        ("k: ! 1", "here:1: tags such as !"),
        ("!!python/object/apply:os.system ['true']", "here:1: tags such as"),
        ("a:\n  " + DEEP, "here:2: more than 30 levels"),
        ("{a: " * 1500, "here:1: more than 30 levels"),
        ("? " * 1500, "here:1: more than 30 levels"),
        ("a: &x [1]\nb: [*x, *x]", "here:1: anchors (&name) and aliases (*name) are not supported"),
        ("a: &x [*x]", "here:1: anchors"),
        ("a: 1\nb: *x", "here:2: anchors"),
        ("a: 1\n---\nb: 2", "here:2 is not valid YAML: but found another document"),
        ("a: 1\nb: \0", "here:2 is not valid YAML"),
        ("a:\n\t- b", "here:2 is not valid YAML"),
        ("%YAML 9.9\n---\na: 1", "here:1 is not valid YAML"),
        ("a: " + "'" + "x" * 100_000, "here:1 is not valid YAML"),
        ("training: {a: 1,\n a: 2}", "here:2: 'a' is given twice (first on line 1)"),
        ("- a", "here must hold a mapping of keys to values, not a list"),
        ("", "here must hold a mapping of keys to values, not nothing"),
    ],
    ids=lambda value: value[:30].replace("\0", "NUL"),
)
def test_what_is_no_configuration_is_one_short_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_mapping(text, "here")
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2020-13-45", "2020-13-45"),
        ("2020-12-01", "2020-12-01"),
        ("=", "="),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        ("1e999", float("inf")),
        ("9" * 100, int("9" * 100)),
    ],
)
def test_what_other_readers_take_for_something_else(text: str, value: object) -> None:
    assert parse(text, "here") == value


def test_only_regular_files_of_a_sensible_size_are_read(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(100 << 20)
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "utf16.yaml").write_text("a: 1", encoding="utf-16")
    for path, sentence in {
        tmp_path: "it is a folder",
        tmp_path / "pipe.yaml": "it is not a regular file",
        Path("/dev/zero"): "it is not a regular file",
        large: "is larger than 256 KiB",
        tmp_path / "utf16.yaml": "utf16.yaml:1 cannot be read: it is not UTF-8 text",
        tmp_path / ("x" * 300): "File name too long",
    }.items():
        with pytest.raises(UserError) as caught:
            read_mapping(path)
        assert sentence in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("a: 1", encoding="utf-8-sig")
    assert read_mapping(tmp_path / "run.yaml").values == {"a": 1}
