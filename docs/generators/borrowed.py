"""Pages and figures of the site that are kept elsewhere in the repository."""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "LICENSE": "licence.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Files of the repository that are pages of the site, and their names there."""
FIGURES = "results/reference"
"""The folder whose figures pages show, under the same path."""

_LINK = re.compile(r"(\]\()([^)\s:#]+)((?:#[^)\s]*)?\))")


def files() -> dict[str, bytes | str]:
    """The content of the files, by their path on the site."""
    found: dict[str, bytes | str] = {}
    for source, page in PAGES.items():
        found[page] = (ROOT / source).read_text(encoding="utf-8")
    return found | {path: (ROOT / path).read_bytes() for path in figures()}


def figures() -> list[str]:
    """The paths of the figures, from the root of the repository and on the site."""
    return sorted(figure.relative_to(ROOT).as_posix() for figure in (ROOT / FIGURES).rglob("*.png"))


def relinked(markdown: str, page: str) -> str:
    """A page's text with the links that it has in the repository replaced by those that it has on the site.

    `page` is its path on the site. A link to a file that is no page stays as it is,
    and is then an error of the build.
    """
    source = {page: file for file, page in PAGES.items()}.get(page, f"docs/{page}")
    here = posixpath.dirname(source)

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, match[2]))
        found = _on_site(target)
        return match[1] + posixpath.relpath(found, posixpath.dirname(page) or ".") + match[3]

    return _LINK.sub(moved, markdown)


def _on_site(target: str) -> str:
    """The path on the site of a file of the repository; the path itself if it is not there."""
    if target in PAGES:
        return PAGES[target]
    return target.removeprefix("docs/")
