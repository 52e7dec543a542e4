"""Gathering all pages of the site in one folder, for the program that turns them into HTML."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from generators import borrowed, pages

ROOT = borrowed.ROOT
_DOCS = ROOT / "docs"


def stage(folder: Path, site: Path) -> Path:
    """Write all pages to `folder`/pages and the configuration for it; returns the configuration's path.

    `site` is where the HTML will go. Pages that mkdocs.yml does not name are put at the end of the guides.
    """
    for path, content in contents().items():
        target = folder / "pages" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    config |= {"docs_dir": "pages", "site_dir": str(site)}
    (guides,) = (section["Guides"] for section in config["nav"] if "Guides" in section)
    guides += _left_over(config["nav"], folder / "pages")
    written = folder / "mkdocs.yml"
    written.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return written


def contents() -> dict[str, bytes | str]:
    """All pages and figures of the site by their path, with their links and generated parts in place."""
    found: dict[str, bytes | str] = {}
    for page in sorted(_DOCS.rglob("*.md")):
        found[page.relative_to(_DOCS).as_posix()] = page.read_text(encoding="utf-8")
    for asset in sorted((_DOCS / "assets").iterdir()):
        found[asset.relative_to(_DOCS).as_posix()] = asset.read_bytes()
    found |= borrowed.files() | pages.generated()
    return {
        path: pages.filled(borrowed.relinked(content, path)) if isinstance(content, str) else content
        for path, content in found.items()
    }


def _left_over(nav: Any, folder: Path) -> list[str]:
    """The pages in a folder that a navigation does not name."""
    every = {page.relative_to(folder).as_posix() for page in folder.rglob("*.md")}
    return sorted(every - set(_named(nav)))


def _named(nav: Any) -> Iterable[str]:
    """The pages that a navigation names, at any depth."""
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from _named(each)
