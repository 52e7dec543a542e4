"""Code shared by the benchmarks: machine and versions, whole-process timing, Markdown tables."""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from abench.runs.provenance import package_versions


def machine() -> str:
    """One line about the machine and the package versions of a measurement."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    versions = package_versions()
    packages = ", ".join(
        f"{name} {versions[name]}" for name in ("python", "torch", "transformers", "sae-lens")
    )
    return f"{model}, {len(os.sched_getaffinity(0))} cores; {packages}"


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Wall-clock seconds and CPU seconds of a process; raises if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def abench(*options: str) -> list[str]:
    """The command line of `abench OPTIONS` in this environment."""
    return [sys.executable, "-P", "-m", "abench", *options]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
