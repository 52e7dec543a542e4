"""The text source `manuals`: what is read of installed packages, and what its key knows."""

import hashlib
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy
import pytest
from command import SMALL, Abench

from abench.config import DataSpec
from abench.data import manuals
from abench.data.texts import texts
from abench.errors import UserError
from abench.results.recorded import RecordedData, recorded_data
from abench.runs.inputs import TEXT, inputs_of

MODULE = (
    '"""About the module."""\n\n\nclass A:\n    """About A."""\n\n    def f(self):\n        """About f."""\n'
)
PADDING = "#" * 1000


def install(
    site: Path, name: str, version: str, files: Mapping[str, str], requires: tuple[str, ...] = ()
) -> None:
    """Install a package by hand: its files, its metadata and the list of its files with their hashes."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}\nAll of {name}."
    )
    lines = []
    for file, content in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(content)
        digest = urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).decode().rstrip("=")
        lines.append(f"{file},sha256={digest},{len(content)}\n")
    (info / "RECORD").write_text("".join(lines))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation of abench that requires two small packages, which require a third."""
    needs = ('one>=1; python_version >= "3"', 'nine; sys_platform == "nowhere"', "two[more]")
    install(tmp_path, "abench", "0", {"abench_itself.py": MODULE + PADDING}, needs)
    install(tmp_path, "one", "1.5", {"one/__init__.py": MODULE + PADDING, "one/small.py": MODULE})
    install(tmp_path, "two", "2.0", {"two.rst": "About two. " * 100}, ('three; extra == "more"', "abench"))
    install(tmp_path, "three", "3.1", {"old.py": "print 'Python 2'" + PADDING, "copy.py": MODULE + PADDING})
    install(tmp_path, "stranger", "1.0", {"stranger.py": MODULE + PADDING})
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    clear()
    yield tmp_path
    clear()


def clear() -> None:
    """As in a new process."""
    manuals._packages.cache_clear()
    manuals._sources.cache_clear()


def test_docstrings_descriptions_and_pages_of_the_required_packages(site: Path) -> None:
    read = sorted(manuals.documents())
    module = "one\n\nAbout the module.\n\none.A\n\nAbout A.\n\none.A.f\n\nAbout f."
    # The copy of the same file in `three` is left out, as are small files, and Python 2 is no text.
    assert read == ["", "About two. " * 100, "All of one.", "All of three.", "All of two.", module]


def test_reading_starts_anywhere_and_has_one_order(site: Path) -> None:
    whole = list(manuals.documents())
    assert list(manuals.documents(2)) == whole[2:]
    spec = DataSpec(source="manuals", dataset=None, held_out_documents=2)
    assert list(texts(spec, "held_out")) == whole[:2]
    assert list(texts(spec, "train")) == whole[2:]


def test_the_key_lists_versions_and_changes_with_every_file(site: Path) -> None:
    before = manuals.identity()
    assert before.startswith("one 1.5, three 3.1, two 2.0; 6 documents, sha256 ")
    assert inputs_of(DataSpec(source="manuals", dataset=None), {}) == {TEXT: before}
    install(site, "one", "1.6", {"one/__init__.py": MODULE + PADDING})
    (site / "one-1.5.dist-info").rename(site / "gone")
    clear()
    assert manuals.difference(before, manuals.identity()) == "one was 1.5 then and is 1.6 now"
    install(site, "four", "4", {}, ())
    (site / "one-1.6.dist-info" / "RECORD").write_text("")
    clear()
    assert manuals.difference("one 1.6, three 3.1, two 2.0; x", manuals.identity()) == (
        "files of the same versions differ"
    )


def test_long_documents_are_cut(site: Path) -> None:
    install(site, "two", "2.1", {"two.rst": "About two. " * 9000})
    (site / "two-2.0.dist-info").rename(site / "gone")
    clear()
    assert max(map(len, manuals.documents())) == 20_000


def test_a_changed_or_missing_file_is_named(site: Path) -> None:
    (site / "two.rst").write_text("About something else. " * 100)
    with pytest.raises(UserError, match=r"two\.rst differs .* install two 2\.0 again"):
        list(manuals.documents())
    (site / "two.rst").unlink()
    with pytest.raises(UserError, match=r"manuals cannot be read: .*two\.rst"):
        list(manuals.documents())


def test_an_sae_is_read_again_only_with_the_same_manuals(site: Path) -> None:
    spec = DataSpec(source="manuals", dataset=None)
    recorded = {"data": RecordedData.of(spec, manuals.identity()).plain()}
    assert recorded_data(recorded, {}) == spec
    recorded = {"data": RecordedData.of(spec, manuals.identity().replace("two 2.0", "two 1.9")).plain()}
    with pytest.raises(UserError, match=r"manuals of other packages: two was 1\.9 then and is 2\.0 now"):
        recorded_data(recorded, {})


def test_this_installation_has_enough_text() -> None:
    clear()
    some = list(islice(manuals.documents(), 300))
    # Enough for 5 million tokens at about four characters each, with a margin of 50 %.
    assert sum(map(len, some)) / len(some) * len(manuals._sources()) > 30_000_000
    assert sum(len(each) > 500 for each in some) > 150


def test_a_run_on_manuals_states_the_packages_of_its_text(abench: Abench, tmp_path: Path) -> None:
    data = ("--set", "data.source=manuals", "--set", "data.held_out_documents=100", "--results", tmp_path)
    result = abench("run", *SMALL, "--variants", "topk", "--k", "4", "--tokens", "4096", *data)
    assert result.code == 0, result.err
    (cell,) = tmp_path.glob("cells/*/*/*/*.json")
    explained = abench("explain", str(cell), "--results", tmp_path)
    assert f"numpy {numpy.__version__}, " in explained.out
