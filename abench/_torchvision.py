"""Keep a torchvision built for another torch from breaking transformers.

sae-bench depends on torchvision, and the package registry carries only its CUDA build. Beside a CPU-only
torch its import raises; transformers sees the package installed, imports it for image processing and can
then import no model class at all. abench needs no images, so a torchvision that cannot be imported is hidden.
"""

import re
import sys
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path


def hide_if_broken() -> None:
    """Make `import torchvision` fail cleanly if the installed one was built for another torch than this one.

    `import abench` calls it, before transformers, sae_lens or transformer_lens can be imported. It reads the
    packages' files and imports neither. One that is imported already is left alone.
    """
    if "torchvision" not in sys.modules and _built_for_another_torch():
        # None marks a module as absent for both `import` and `importlib.util.find_spec`.
        sys.modules["torchvision"] = None  # type: ignore[assignment]


def _built_for_another_torch() -> bool:
    folder, torch = _folder("torchvision"), _folder("torch")
    if folder is None or torch is None:
        return False
    return _of_another_version() or _lacks_libraries(folder, torch / "lib")


def _folder(package: str) -> Path | None:
    found = PathFinder.find_spec(package)
    places = None if found is None else found.submodule_search_locations
    return Path(next(iter(places))) if places else None


def _of_another_version() -> bool:
    """Whether torchvision's own requirements name another version of torch."""
    try:
        named = [re.fullmatch(r"torch\s*\(?==\s*([\w.]+)\)?", line) for line in requires("torchvision") or ()]
        present = version("torch").partition("+")[0]
    except PackageNotFoundError:
        return False
    return any(match is not None and match[1] != present for match in named)


def _lacks_libraries(folder: Path, libraries: Path) -> bool:
    """Whether torchvision's compiled part needs torch's library for a GPU, which a torch for CPUs lacks."""
    kinds = [b"libtorch_cuda.so", b"libtorch_hip.so", b"libtorch_xpu.so"]
    if any((libraries / kind.decode()).exists() for kind in kinds):
        return False
    extensions = [file.read_bytes() for file in folder.glob("_C*.so")]
    return any(kind in extension for extension in extensions for kind in kinds)
