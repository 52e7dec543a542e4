"""Facts recorded with a result but not part of its key: where, when, with which packages, how long."""

import hashlib
import platform
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from abench.data.activations import ActivationSource
    from abench.lm.models import LanguageModel

_PACKAGE = Path(__file__).parents[1]
"""The folder of abench's modules."""


def provenance(device: str, seconds: float) -> dict[str, Any]:
    """Device, host, packages, source, wall-clock seconds and peak memory of this process in MiB."""
    return {
        "device": device_name(device),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "git_commit": git_commit(),
        "source": source_fingerprint(),
        "seconds": round(seconds, 3),
        **({} if (peak := peak_memory_mib()) is None else {"peak_memory_mib": peak}),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def how_read(lm: "LanguageModel | ActivationSource | None") -> dict[str, Any]:
    """How a language model has read: `forward_passes`, `model_devices`; empty for another model.

    `forward_passes` is the largest pass of each kind since the work began (`FittingPasses.used`), and
    `model_devices` the places of a model that is spread over several.
    """
    if lm is None:
        return {}
    from abench.lm.devices import places_of
    from abench.lm.models import LanguageModel

    if not isinstance(lm, LanguageModel):
        return {}
    found = {"forward_passes": lm.fitting.used(), "model_devices": places_of(lm.model)}
    return {name: value for name, value in found.items() if value}


def device_name(device: str) -> str:
    """The device with its number of threads, e.g. `cpu (2 threads)`, or with the GPU's name."""
    import torch

    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


NOT_INSTALLED = "not installed"
"""Used in place of a version."""


@cache
def requirements() -> tuple["Requirement", ...]:
    """The packages that abench needs on this machine, without extras; empty if abench is not installed."""
    from packaging.requirements import Requirement

    try:
        every = [Requirement(line) for line in requires("abench") or ()]
    except PackageNotFoundError:
        return ()
    return tuple(each for each in every if each.marker is None or each.marker.evaluate({"extra": ""}))


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python, abench and all packages it needs, since any of them can affect results."""
    versions = {"python": platform.python_version()}
    for name in ("abench", *(each.name for each in requirements())):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = NOT_INSTALLED
    return versions


@cache
def git_commit() -> str | None:
    """The commit of abench's checkout, with `+` if it has uncommitted changes; None outside a checkout."""
    here = _PACKAGE
    if not (here.parent / ".git").exists():
        return None
    try:
        run: Callable[..., str] = lambda *args: subprocess.run(  # noqa: E731
            ["git", "-C", str(here), *args], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        return run("rev-parse", "HEAD") + ("+" if run("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def source_fingerprint() -> str:
    """A hash of abench's own Python files, which distinguishes states of the same version."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.py")):
        digest.update(file.relative_to(_PACKAGE).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def peak_memory_mib() -> int | None:
    """The peak resident set size of this process so far, in MiB; None where the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
