"""A torchvision for another torch stays out of the way; one that works is left alone."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from abench import _torchvision

Install = Callable[..., None]


def in_a_new_process(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_importing_abench_is_enough_and_imports_neither() -> None:
    code = "import sys, abench; print({'torch', 'transformers'} & set(sys.modules))"
    assert in_a_new_process(code) == "set()"
    uses = "import abench, sae_lens; from transformers import BertForPreTraining; print('works')"
    assert in_a_new_process(uses) == "works"


def test_whether_it_is_there_is_what_its_import_shows() -> None:
    """Decided from the packages' files; the import itself, in a process without abench, must agree."""
    tried = "import torch\ntry: import torchvision\nexcept Exception: print('broken')\nelse: print('works')"
    if (found := in_a_new_process(tried)) == "works":
        ours = "import abench, torchvision; print('works')"
    else:
        ours = "import sys, abench; print('broken' if sys.modules.get('torchvision', 0) is None else 'works')"
    assert in_a_new_process(ours) == found


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a torch and a torchvision on disk: versions, what the second needs, which libraries there are."""

    def write(pinned: str, torch: str, *libraries: str, needs: bytes = b"") -> None:
        for name in ("torch", "torchvision"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "__init__.py").touch()
        (tmp_path / "torch" / "lib").mkdir(exist_ok=True)
        for library in libraries:
            (tmp_path / "torch" / "lib" / library).touch()
        (tmp_path / "torchvision" / "_C.so").write_bytes(b"\x7fELF" + needs + b"\0")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(_torchvision, "requires", lambda _: ["numpy", f"torch (=={pinned})"])
        monkeypatch.setattr(_torchvision, "version", lambda _: torch)

    return write


@pytest.mark.parametrize(
    ("broken", "pinned", "torch", "libraries", "needs"),
    [
        (False, "2.13.0", "2.13.0+cpu", (), b"libtorch_cpu.so"),
        (True, "2.13.0", "2.13.0+cpu", (), b"libtorch_cuda.so"),
        (False, "2.13.0", "2.13.0", ("libtorch_cuda.so",), b"libtorch_cuda.so"),
        (True, "2.12.1", "2.13.0", ("libtorch_cuda.so",), b"libtorch_cuda.so"),
        (True, "2.13.0", "2.13.0", (), b"libtorch_hip.so"),
    ],
)
def test_what_tells(
    install: Install, broken: bool, pinned: str, torch: str, libraries: tuple[str, ...], needs: bytes
) -> None:
    install(pinned, torch, *libraries, needs=needs)
    assert _torchvision._built_for_another_torch() is broken


def test_without_records_of_the_packages_only_the_files_tell(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    install("", "", needs=b"libtorch_cuda.so")
    monkeypatch.setattr(_torchvision, "requires", gone)
    assert _torchvision._built_for_another_torch()
