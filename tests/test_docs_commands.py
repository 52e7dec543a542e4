"""Every command on the pages is one that abench understands, and every `run` plans what the page says."""

import json
import shutil
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from command import Abench
from doc_blocks import PAGES, Block, blocks, page_commands

from abench.cli import cli
from abench.tinyworld import MODEL_DIR

COMMANDS = {" ".join(words): words for page in PAGES for words in page_commands(page)}
"""Every command once, by its text."""
ELSEWHERE = ("--sae", "--device", "--executor", "--results", "--plugins", "--from")
"""Options that need an SAE, a device, other hosts or a plug-in. Such runs are computed by other tests: the
worked cases, the tutorial, and the tests of executors."""
RUNS = {
    text: words
    for text, words in COMMANDS.items()
    if words[0] == "run"
    and not any(word in ELSEWHERE or word.startswith("results/") for word in words)
    and "tutorial.yaml" not in words
}
"""The runs on the pages that need nothing but the files in `place`."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that pages name."""
    folder = tmp_path_factory.mktemp("pages")
    lines = [{"text": f"a text about {word}"} for word in ("apples", "pears")]
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "my-run.yaml").write_text("name: my-run\n", encoding="utf-8")
    (folder / "my-world.yaml").write_text(_yaml("docs/synthetic.md"), encoding="utf-8")
    shutil.copy(folder / "texts.jsonl", folder / "biology.jsonl")
    (folder / "results" / "reports" / "default").mkdir(parents=True)
    (folder / "results" / "reports" / "default" / "provenance.json").touch()
    for name in ("mine.csv", "concepts.csv", "animals.csv"):
        (folder / name).write_text("text,label\na,b\n", encoding="utf-8")
    for name in ("my-model", "any-hugging-face-folder"):
        shutil.copytree(MODEL_DIR, folder / name)
    return folder


@pytest.fixture
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def _yaml(page: str) -> str:
    return next(block.text for block in blocks(page) if block.language == "yaml")


@pytest.mark.parametrize("text", COMMANDS)
def test_every_command_on_the_pages_exists_with_its_options(text: str, there: Path) -> None:
    words = list(COMMANDS[text])
    command: click.Command = cli
    path: list[str] = []
    while isinstance(command, click.Group):
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    command.make_context(" ".join(path), words)


@pytest.mark.parametrize("text", RUNS)
def test_every_run_on_the_pages_can_be_planned(text: str, there: Path, abench: Abench) -> None:
    result = abench(*RUNS[text], "--dry-run", "--no-calibration")
    assert result.code == 0, result.err
    assert "no effect" not in result.err


def of(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_every_python_block_is_python(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", of("yaml", "toml"), ids=str)
def test_every_configuration_can_be_read(block: Block) -> None:
    read = {"yaml": yaml.safe_load, "toml": tomllib.loads}[block.language]
    assert isinstance(read(block.text), dict)


@pytest.mark.parametrize("block", [each for each in of("yaml") if "\nvariants:" in each.text], ids=str)
def test_every_description_of_a_run_can_be_planned(block: Block, there: Path, abench: Abench) -> None:
    (there / "described.yaml").write_text(block.text, encoding="utf-8")
    result = abench("run", "described.yaml", "--dry-run", "--no-calibration")
    assert result.code == 0, result.err


def test_all_pages_are_looked_at() -> None:
    assert len(COMMANDS) > 60 and len(RUNS) > 25
    assert {"README.md", "docs/tutorial.md", "docs/tasks/scr.md"} <= set(PAGES)
