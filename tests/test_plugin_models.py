"""Models that folders and other packages describe in YAML files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import Abench

from abench.config.plugin_models import find_models
from abench.errors import UserError
from abench.lm.catalogue import find_model

MINE = """
title: My tiny world
aliases: [mine]
weights: tinyworld
n_layers: 4
d_model: 128
layers: [1]
k: [5]
width_factor: 2
context: 64
preset: tiny
eos_after_documents: true
data: {source: tinyworld, dataset: null}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "my-model.yaml").write_text(MINE, encoding="utf-8")
    (plugins / "gpt2.yaml").write_text(MINE, encoding="utf-8")
    (plugins / "wrong.yaml").write_text(MINE.replace("d_model: 128", "d_modell: 128"), encoding="utf-8")
    (plugins / "no yaml.yaml").write_text("title: [", encoding="utf-8")
    (plugins / "notes.txt").write_text("not a model", encoding="utf-8")
    return plugins


@pytest.mark.parametrize("name", ["my-model", "mine"])
def test_a_run_uses_a_model_of_a_folder_with_its_preset(folder: Path, abench: Abench, name: str) -> None:
    run = abench("run", "--model", name, "--plugins", folder, "--variants", "topk", "--dry-run")
    assert run.code == 0, run.err
    assert "My tiny world: 1 SAE at 1 site, 2,000,000 tokens each" in run.out  # the preset `tiny`
    assert run.out.splitlines()[2].split()[:5] == ["my-model", "blocks.1.hook_resid_post", "topk", "5", "256"]


def test_what_is_wrong_with_a_file_is_a_row_and_costs_no_other(folder: Path, abench: Abench) -> None:
    rows = {
        Path(row["source"]).name: row
        for row in json.loads(abench("list", "models", "--plugins", folder, "--json").out)
        if str(folder) in row["source"]
    }
    assert set(rows) == {"my-model.yaml", "gpt2.yaml", "wrong.yaml", "no yaml.yaml"}
    assert rows["my-model.yaml"]["title"] == "My tiny world"
    assert "the name 'gpt2' is already taken by abench.configs" in rows["gpt2.yaml"]["title"]
    assert "unknown key 'd_modell'; did you mean 'd_model'?" in rows["wrong.yaml"]["title"]
    assert "must consist of letters" in rows["no yaml.yaml"]["title"]
    assert rows["wrong.yaml"]["weights"] == "broken"
    assert find_model("gpt2", [folder])[1].title == "GPT-2 Small"
    refused = abench("run", "--model", "wrong", "--plugins", folder, "--dry-run")
    assert refused.code == 2 and "--model: model 'wrong' (" in refused.err
    with pytest.raises(UserError, match=r"unknown model 'my-modell'; did you mean 'my-model'\?"):
        find_model("my-modell", [folder])


def test_every_model_of_abench_is_usable() -> None:
    assert [name for name, each in find_models().items() if each.value is None] == []


def test_a_package_describes_models(tmp_path: Path) -> None:
    package, metadata = tmp_path / "their_models", tmp_path / "their_models-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "theirs.yaml").write_text(MINE, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-models\nVersion: 1.0\n")
    entries = "[abench.models]\nmissing = not_installed\ntheirs = their_models\n"
    (metadata / "entry_points.txt").write_text(entries)
    code = (
        "import sys; from abench.lm.catalogue import find_model\n"
        "from abench.config.plugin_models import find_models\n"
        "print(*find_model('mine')[0:1], find_models()['not_installed'].summary, 'torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "theirs ModuleNotFoundError: No module named 'not_installed' False"
