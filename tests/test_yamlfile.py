"""YAML is read as people mean it."""

from pathlib import Path

import pytest

from abench.errors import UserError
from abench.yamlfile import line_of, parse, read_mapping


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
    with pytest.raises(UserError, match=r"here: line 3: 'k' is given twice \(first on line 1\)"):
        parse("k: 1\nx: 2\nk: 3\n", "here")


def test_not_yaml_names_file_and_line() -> None:
    with pytest.raises(UserError, match=r"^run\.yaml:[23] is not valid YAML: "):
        parse("a: 1\nb: [1, 2\n", "run.yaml")


def test_no_python_objects() -> None:
    with pytest.raises(UserError, match="not valid YAML"):
        parse("!!python/object/apply:os.system ['true']", "here")


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


def test_line_of_a_key_path() -> None:
    text = "a: 1\ntraining:\n  tokens: 5\n  betas:\n    - 0.9\n    - 2\n"
    assert line_of(text, ("training", "tokens")) == 3
    assert line_of(text, ("training", "betas", 1)) == 6
    assert line_of(text, ("training", "absent")) == 2
    assert line_of(text, ("absent",)) is None
