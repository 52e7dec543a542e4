"""What is recorded beside a number because it cannot change it: where, when, with what, how long."""

import hashlib
import platform
import resource
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
        "peak_memory_mib": peak_memory_mib(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_name(device: str) -> str:
    """`cpu (2 threads)` or the GPU's name."""
    import torch

    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


NOT_INSTALLED = "not installed"
"""In place of a version."""


@cache
def requirements() -> tuple["Requirement", ...]:
    """What abench needs on this machine, extras left out; empty where abench itself is not installed."""
    from packaging.requirements import Requirement

    try:
        every = [Requirement(line) for line in requires("abench") or ()]
    except PackageNotFoundError:
        return ()
    return tuple(each for each in every if each.marker is None or each.marker.evaluate({"extra": ""}))


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python, of abench and of all packages that it needs: numbers come from any of them."""
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
    here = Path(__file__).parent
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
    """A hash of abench's own Python files: tells two states of the same version apart."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def peak_memory_mib() -> int:
    """The largest resident set of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
