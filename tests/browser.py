"""A headless Chromium for tests of the report's page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDTHS = (400, 1400)
"""Of a phone and of a desktop, in pixels."""


def executable() -> str | None:
    """The browser's path: ABENCH_CHROMIUM, which `nox -s tests` sets, or an installed one; else None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("ABENCH_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def browser() -> Iterator[Any]:
    """A browser; skips the test with the reason if there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = executable()
    if path is None:
        pytest.skip(
            "there is no Chromium: `nox -s tests` gets one if npm is installed; or set ABENCH_CHROMIUM"
        )
    with sync_api.sync_playwright() as playwright:
        # Without a sandbox, which containers do not allow; the pages are our own.
        options = ["--no-sandbox", "--no-zygote", "--disable-gpu"]
        try:
            chromium = playwright.chromium.launch(executable_path=path, args=options)
        except sync_api.Error as error:
            if "shared libraries" in str(error):
                pytest.skip(f"{path} needs libraries that this system lacks: {error}")
            raise
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def opened(chromium: Any, address: Path | str, *, width: int = 1400, **options: Any) -> Iterator[Any]:
    """A page in a window of this width; the test fails if the page reports an error or asks the network."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    home = address.as_uri() if isinstance(address, Path) else address
    page.on("request", lambda asked: None if own(asked.url, home) else wrong.append(asked.url))
    try:
        page.goto(home)
        yield page
        assert wrong == []
    finally:
        context.close()


def own(url: str, home: str) -> bool:
    """Whether a request stays within the page or the server that serves it."""
    return url.startswith(("data:", "blob:")) or url.split("?")[0].rsplit("/", 1)[0] == home.rsplit("/", 1)[0]
