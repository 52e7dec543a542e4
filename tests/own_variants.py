"""A variant that does not come with abench: the example in docs/variants.md."""

from pathlib import Path

import pytest
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

_PAGE = Path(__file__).parents[1] / "docs" / "variants.md"
RIDGE = _PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]


@pytest.fixture
def ridge(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the example in ridge.py; sae-lens forgets its classes after the test."""
    for known in (SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY):
        monkeypatch.setitem(known, "ridgetopk", None)  # restored, that is removed, after the test
        known.pop("ridgetopk")
    folder = tmp_path_factory.mktemp("ridge")
    (folder / "ridge.py").write_text(RIDGE, encoding="utf-8")
    return folder
