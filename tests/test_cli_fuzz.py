"""Any command line and any YAML file ends in a documented exit status and short sentences.

The commands, their options, and the keys of all specs are found by walking; only values are listed.
"""

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from command import Abench
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from abench.cli import cli
from abench.config import ModelConfig, RunConfig
from abench.plugins import find_tasks
from abench.variants import get_variant, variant_names

EVIL = (
    *(
        "0",
        "-1",
        "1",
        "3",
        "1.5",
        "1e-3",
        "1e999",
        ".inf",
        ".nan",
        "nan",
        "inf",
        "true",
        "null",
        "~",
        "9" * 5000,
    ),
    *(
        "1000000000000",
        "[1, 1]",
        "[0.1, .nan]",
        "[]",
        "{}",
        "[[[1]]]",
        "{a: 1}",
        "{1: 2}",
        "[1]: 2",
        "[" * 1500,
    ),
    *(
        "2020-13-45",
        "!!int abc",
        "!!python/name:os.system",
        "*a",
        "&a [*a]",
        "<<",
        "a: b: c",
        "'",
        "\t",
        "@",
        "%",
        ",",
    ),
    *(
        "",
        " ",
        ".",
        "..",
        "../..",
        "/",
        "/dev/zero",
        "/dev/null",
        "~",
        "*",
        "**",
        "[",
        "?",
        "-",
        "--",
        "x" * 300,
    ),
    *(
        "x" * 20_000,
        "é",
        "\u202e",
        "\x1b[31m",
        "\udcff",
        "=cmd",
        "core",
        "tiny",
        "synthetic",
        "topk",
        "all",
        "file",
    ),
)
"""Values that are right for some option or key, and wrong for most."""
QUICK = ("run", "status", "report", "compare", "list", "show", "latents", "explain", "new", "tinyworld")
"""Commands that take no minutes, given what `harmless` adds; `doctor` opens a model each time."""
STATUSES = {0, 2, 3, 4}


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif (*path, name)[0] in QUICK:
            yield (*path, name), command


def keys_of(schema: dict[str, Any], node: dict[str, Any], path: str = "") -> Iterator[str]:
    """All key paths of a spec's JSON schema."""
    for each in (node, *node.get("anyOf", ()), *node.get("allOf", ())):
        each = schema["$defs"][each["$ref"].rpartition("/")[2]] if "$ref" in each else each
        for key, inner in each.get("properties", {}).items():
            yield path + key
            yield from keys_of(schema, inner, f"{path}{key}.")


def all_keys(spec: Any) -> list[str]:
    schema = spec.model_json_schema()
    return list(keys_of(schema, schema))


def run_keys() -> list[str]:
    tasks = [
        f"task_options.{n}.{o}"
        for n, each in find_tasks().items()
        if each.value
        for o in each.value.model_fields
    ]
    variants = [
        f"variant_options.{n}.{o}" for n in variant_names() for o in type(get_variant(n)).model_fields
    ]
    return [*all_keys(RunConfig), *tasks, *variants]


COMMANDS, RUN_KEYS, MODEL_KEYS = list(commands(cli)), run_keys(), all_keys(ModelConfig)
VALUES = st.sampled_from(EVIL) | st.integers().map(str) | st.floats().map(str) | st.text(max_size=20)
ARGUMENTS = VALUES.map(lambda value: value.replace("\0", ""))


def tree(path: str, value: Any) -> Any:
    for step in reversed(path.split(".")):
        value = {step: value}
    return value


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(EVIL),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def yaml_text(draw: st.DrawFn, keys: list[str]) -> str:
    """A configuration: a key with a raw value, some keys with any values, or no YAML at all."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.text(max_size=60) | st.sampled_from(EVIL))
    if kind == 1:
        steps = draw(st.sampled_from(keys)).split(".")
        return "\n".join(f"{'  ' * n}{step}:" for n, step in enumerate(steps)) + " " + draw(VALUES)
    chosen = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3))
    return "".join(yaml.safe_dump(tree(key, draw(YAML_VALUES)), allow_unicode=True) for key in chosen)


@st.composite
def command_line(draw: st.DrawFn) -> list[str]:
    """A command with some of its options, with good and bad values."""
    path, command = draw(st.sampled_from(COMMANDS))
    line = list(path)
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            line += [draw(ARGUMENTS)] if parameter.required or draw(st.booleans()) else []
    options = [
        each for each in command.params if isinstance(each, click.Option) and each.name not in TOO_SLOW
    ]
    for option in draw(st.lists(st.sampled_from(options), max_size=3)) if options else ():
        if option.name == "assignments":
            line += ["--set", f"{draw(st.sampled_from(RUN_KEYS) | ARGUMENTS)}={draw(ARGUMENTS)}"]
        else:
            line += [option.opts[0], *([] if option.is_flag else [draw(ARGUMENTS)])]
    return line


TOO_SLOW = {"check", "help", "number", "steps", "dry_run", "results", "out", "folder"}
"""Options whose good values take minutes or write where they are told; `harmless` sets those that matter."""


def harmless(line: list[str], place: Path) -> list[str]:
    """The command line so that it computes nothing and writes only below `place`."""
    if line[0] == "run":
        line = [*line, "--dry-run"]
    if line[0] in {"run", "status", "report", "compare", "show", "latents", "explain"}:
        line = [*line, "--results", str(place / "results")]
    if line[0] == "new":
        line = [*line, "--dir", str(place / "plugins")]
    if line[:2] == ["tinyworld", "build"]:
        line = [*line, "--steps", "none"]
    return line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder to work in, so that names in it are found by no option."""
    return tmp_path_factory.mktemp("fuzz")


def check(abench: Abench, line: list[str], place: Path) -> None:
    with chdir(place):
        result = abench(*line)
    assert result.code in STATUSES, (line, result.err)
    assert "Traceback" not in result.err
    sentences = result.err.splitlines()
    assert len(sentences) <= 21
    assert all(len(sentence) <= 620 for sentence in sentences), result.err
    if result.code == 2:
        assert sentences
    if result.code == 0 and line[0] == "new":
        shutil.rmtree(place / "plugins")
    left = [path for path in place.rglob("*") if path.name != "fuzz.yaml"]
    assert left == [], (line, left)


FUZZED = settings(
    max_examples=250,
    derandomize=True,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@FUZZED
@given(line=command_line())
def test_any_command_line(abench: Abench, place: Path, line: list[str]) -> None:
    check(abench, harmless(line, place), place)


@FUZZED
@given(text=yaml_text(RUN_KEYS) | yaml_text(MODEL_KEYS), model=st.booleans())
def test_any_yaml_file(abench: Abench, place: Path, text: str, model: bool) -> None:
    file = place / "fuzz.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        check(abench, harmless(["run", *(["--model"] if model else []), str(file)], place), place)
    finally:
        file.unlink()
