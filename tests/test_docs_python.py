"""The Python blocks on the pages run: as they stand, or with small sizes in place of large ones.

Blocks of pages that are one session or one worked case have tests of their own (EXECUTED names them).
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from doc_blocks import PAGES, ROOT, Block, blocks
from signed import random_sae

import abench
from abench.declaration import declaration_problems
from abench.judges import Exchange
from abench.tinyworld import World
from abench.variants import save_sae

EXECUTED = {
    "docs/notebook.md": "test_notebook.py",
    "docs/tutorial.md": "test_docs_tutorial.py",
    "docs/variants.md": "own_variants.py",
    "docs/your-sae.md": "test_your_sae.py",
}
"""Pages all of whose Python blocks are run by another module."""
ALSO_EXECUTED = {
    "docs/judges.md-1": "test_plugin_judges.py",
    "docs/judges.md-2": "test_plugin_judges.py",
    "docs/steering.md-2": "test_own_concepts.py",
}
"""Single blocks that another module runs."""
SMALLER = {
    "README.md": {
        '"gpt2", site="blocks.6.hook_resid_post"': '"tiny", site="blocks.2.hook_resid_post"',
        'tasks=["core", "sparse_probing", "scr"]': 'tasks=["core"], evaluation={"tokens": 1280}',
        "width=8192, steps=5000": "width=64, steps=4",
    },
    "docs/steering.md": {
        '"models/qwen3-4b", dtype="bfloat16", device="cuda"': '"tiny"',
        ', device="cuda"': "",
        "site_name(18)": "site_name(2)",
        "max_new_tokens=128": "max_new_tokens=4",
    },
    "docs/tinyworld.md": {"1000": "20", "100": "5"},
}
"""What the tests replace on a page so that it runs on the bundled model within seconds."""


def python_blocks() -> list[Block]:
    every = [block for page in PAGES if page not in EXECUTED for block in blocks(page)]
    return [each for each in every if each.language == "python" and str(each) not in ALSO_EXECUTED]


def texts(number: int) -> list[str]:
    return [document.text for document in World().reviews("test", number)]


def given() -> dict[str, Any]:
    """What the pages take as given: the public names, an SAE, activations, prompts, exchanges."""
    from typing import ClassVar

    names = {name: getattr(abench, name) for name in abench.__all__}
    return names | {
        "Any": Any,
        "ClassVar": ClassVar,
        "accuracy": 0.7,
        "activations": torch.randn(16384, 32, generator=torch.Generator().manual_seed(0)),
        "exchanges": [Exchange("a request", "a reply")],
        "harmful": texts(4)[:2],
        "harmless": texts(4)[2:],
        "my_sae": random_sae(),
        "prompts": texts(1),
    }


def small(block: Block) -> str:
    """The text of a block with what SMALLER replaces."""
    text = block.text
    for large, smaller in SMALLER.get(block.page, {}).items():
        text = text.replace(large, smaller)
    return text


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Block], dict[str, Any]]:
    """Runs a block in a folder with an SAE and a report's data; returns the names that it defines."""
    monkeypatch.chdir(tmp_path)
    save_sae(random_sae(), tmp_path / "saes" / "abstopk", scale=1.0, metadata={})
    report = tmp_path / "results" / "reports" / "default"
    report.mkdir(parents=True)
    shutil.copy(ROOT / "results" / "reference" / "data.csv", report)

    def run(block: Block) -> dict[str, Any]:
        names = given()
        # The last call on the page of judges sends requests; the tests of endpoints do.
        exec(small(block).replace("\njudge.judge(exchanges)\n", "\n"), names)
        return names

    return run


@pytest.mark.parametrize("block", python_blocks(), ids=str)
def test_a_block_runs(block: Block, ran: Callable[[Block], dict[str, Any]]) -> None:
    names = ran(block)
    if "NormRatio" in names:
        assert declaration_problems(names["NormRatio"]) == []
    if "valid_if" in names:
        assert names["valid_if"][0].at_least == 0.6
    if "scores" in names:
        assert not names["scores"].failed and Path("my-report/index.html").is_file()


def test_what_is_replaced_and_left_to_others_stands_on_the_pages() -> None:
    for page, replaced in SMALLER.items():
        assert [large for large in replaced if large not in PAGES[page]] == []
    others = {*EXECUTED.values(), *ALSO_EXECUTED.values()}
    assert all((Path(__file__).parent / name).is_file() for name in others)
    assert set(ALSO_EXECUTED) <= {str(block) for page in PAGES for block in blocks(page)}
