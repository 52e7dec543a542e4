"""What is shipped: every package is listed, pins lie within the ranges, weights are safetensors only."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_with_code_is_a_listed_package() -> None:
    mapped = {"tasks": "abench.tasks", "configs": "abench.configs"}
    folders = [
        p.parent.relative_to(ROOT)
        for top in ("abench", "tasks", "configs")
        for p in (ROOT / top).rglob("__init__.py")
    ]
    names = {mapped.get(str(folder), ".".join(folder.parts)) for folder in folders}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(names)


@pytest.mark.parametrize("requirement", PROJECT["project"]["dependencies"])
def test_the_tested_version_lies_in_the_range_that_users_get(requirement: str) -> None:
    wanted = Requirement(requirement)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {
        pin.name.lower().replace("_", "-"): pin
        for pin in map(Requirement, (x for x in lines if not x.startswith("#")))
    }
    pinned = str(pins[wanted.name.lower()].specifier).removeprefix("==")
    assert wanted.specifier.contains(pinned)


def test_every_dependency_has_an_upper_bound_or_a_reason() -> None:
    free = {"pillow", "tokenizers", "zstandard"}  # stable interfaces, used by others rather than by abench
    for line in PROJECT["project"]["dependencies"]:
        requirement = Requirement(line)
        assert requirement.name in free or "<" in str(requirement.specifier), line


def test_weights_are_safetensors_and_the_model_is_small() -> None:
    from abench.tinyworld import MODEL_DIR

    files = list(MODEL_DIR.iterdir())
    assert not [f for f in files if f.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}]
    assert sum(f.stat().st_size for f in files) < 10_000_000


def test_the_public_names_are_there() -> None:
    import abench

    assert sorted(abench.__all__) == abench.__all__
    for name in abench.__all__:
        assert getattr(abench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = abench.nothing
