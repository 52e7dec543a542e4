"""The documentation site: it builds without a warning, its links lead somewhere, nothing on it is fetched."""

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from test_packaging import PUBLIC

ROOT = Path(__file__).parents[1]
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
"""The attribute through which an element loads something."""


class Elements(HTMLParser):
    """The ids, links and loaded files of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids |= {found.get("id") or "", found.get("name") or ""}
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        if found.get(LOADED.get(tag, "")):
            self.loaded.append(str(found[LOADED[tag]]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, str(ROOT / "docs" / "build_site.py"), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Elements]:
    return {page: Elements(page) for page in site.rglob("*.html")}


def broken(pages: dict[Path, Elements]) -> Iterator[str]:
    """Links within the site that lead nowhere."""
    for page, elements in pages.items():
        for link in {*elements.links, *elements.loaded}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or page.name == "404.html":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].ids):
                yield f"{page.name}: {link}"


def test_every_link_on_the_site_leads_somewhere(pages: dict[Path, Elements]) -> None:
    assert sorted(broken(pages)) == []
    assert sum(len(elements.links) for elements in pages.values()) > 1000


def test_pages_load_nothing_from_elsewhere(pages: dict[Path, Elements]) -> None:
    assert [link for each in pages.values() for link in each.loaded if urlsplit(link).netloc] == []


def test_every_page_of_the_repository_is_on_the_site(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file()
    assert "abench" in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_documented(module: str, pages: dict[Path, Elements], site: Path) -> None:
    page = pages[site / "reference" / "api" / f"{module}.html"]
    assert {f"{module}.{name}" for name in import_module(module).__all__} <= page.ids


def test_the_search_needs_no_server(site: Path) -> None:
    assert (site / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index = ")
    assert "iframe-worker" in (site / "index.html").read_text(encoding="utf-8")
