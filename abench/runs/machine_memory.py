"""The memory that this process may use: the machine's, or less in a container or a job of a cluster."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OF_PROCESS = Path("/proc/self/cgroup")


class Limit(NamedTuple):
    """The memory limit of a control group, and what is in use and cannot be freed, in bytes."""

    size: int
    used: int


class _Files(NamedTuple):
    """The files of a version of control groups."""

    size: str
    used: str
    cached: str
    """Entry of memory.stat: pages of files that are freed when memory runs out."""


_SECOND = _Files("memory.max", "memory.current", "inactive_file")
_FIRST = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def main_bytes() -> int | None:
    """Main memory that this process may use in all, in bytes; None if the system does not report it."""
    sizes = [limit.size for limit in limits()]
    if (whole := _machine_bytes()) is not None:
        sizes.append(whole)
    return min(sizes, default=None)


def available_bytes() -> int | None:
    """Main memory that is free or can be freed, in bytes; None if the system does not report it."""
    free = [max(0, limit.size - limit.used) for limit in limits()]
    if (whole := _machine_free_bytes()) is not None:
        free.append(whole)
    return min(free, default=None)


def limits(groups: Path = CONTROL_GROUPS, of_process: Path = OF_PROCESS) -> list[Limit]:
    """The limits of the control groups that this process is in, of both versions; none outside Linux.

    A group's limit holds for all groups below it. In a container, the process's group is the root of the
    mounted hierarchy, whatever its name outside.
    """
    try:
        lines = of_process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[Limit] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += _of_chain(groups, path, _SECOND)
        elif "memory" in controllers.split(","):
            found += _of_chain(groups / "memory", path, _FIRST)
    return found


def _of_chain(root: Path, path: str, files: _Files) -> Iterator[Limit]:
    group = root / path.strip("/")
    if ".." in Path(path).parts or not group.is_dir():
        group = root
    for each in (group, *group.parents):
        if (limit := _limit(each, files)) is not None:
            yield limit
        if each == root:
            return


def _limit(group: Path, files: _Files) -> Limit | None:
    """The limit of one group; None if it has none.

    Without a limit, the second version has the word `max`, the first a number beyond any memory.
    """
    try:
        size = int((group / files.size).read_text(encoding="ascii"))
        used = int((group / files.used).read_text(encoding="ascii"))
        cached = _statistics(group / "memory.stat").get(files.cached, 0)
    except (OSError, ValueError):
        return None
    return Limit(size, max(0, used - cached))


def _statistics(file: Path) -> Mapping[str, int]:
    rows = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}


def _machine_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        # Windows has no sysconf.
        return None


def _machine_free_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _machine_bytes()  # there is none outside Linux
    found = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return _machine_bytes() if found is None else int(found[1]) * 1024
