"""The tutorial runs as it stands, from its first command to its own task and variant."""

from pathlib import Path

import pytest
from command import Abench
from doc_blocks import blocks, run_all
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

PAGE = "docs/tutorial.md"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; sae-lens forgets the variant's classes after the test."""
    monkeypatch.chdir(tmp_path)
    for known in (SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY):
        monkeypatch.setitem(known, "ridgetopk_sae", None)
        known.pop("ridgetopk_sae")
    return tmp_path


@pytest.mark.slow
def test_the_tutorial(place: Path, abench: Abench) -> None:
    printed, names = [], {}
    for block in blocks(PAGE):
        if block.language == "yaml":
            (place / "tutorial.yaml").write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            printed.append(run_all(abench, block.text))
        elif block.text.startswith('"""agreement'):
            assert (place / "my_tasks" / "agreement.py").is_file()
            (place / "my_tasks" / "agreement.py").write_text(block.text, encoding="utf-8")
        else:
            exec(block.text, names)
    first, seeds, _, agreement, variant, both = printed
    assert "2 done" in first
    assert "±" in seeds and names["nmse"]["count"].tolist() == [2, 2]
    assert len(names["contexts"].of(names["latent"]).positive) == 3
    assert "agreement" in agreement and "AbsTopK" in agreement
    assert "ridgetopk" in variant.lower() and "AbsTopK" in variant
    assert "ridge" in both and "agreement" in both
