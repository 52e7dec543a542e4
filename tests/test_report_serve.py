"""`abench report --serve`: a real server beside a real run, and its page in a browser."""

import http.client
import json
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from browser import opened
from command import Abench, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="ends the server by a POSIX signal"),
]

TINY = (
    "--layers", "1", "--width", "64", "--k", "4", "--tokens", "2048", "--limit", "4", "--tasks", "core",
    "--set", "context=32", "--set", "training.batch_size=512", "--set", "training.buffer_tokens=1024",
    "--set", "evaluation.tokens=256",
)  # fmt: skip


def get(address: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def address_of(process: Any) -> str:
    for line in process.stdout:
        if line.startswith("Serving the report at "):
            return str(line.split()[4])
    raise AssertionError("the server has ended")


def lacks(page: bytes) -> bool:
    return re.search(rb"\d cells? missing", page) is not None


def wait_until(true: Any) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.fixture
def begun(abench: Abench, tmp_path: Path) -> Path:
    """A results folder with one of the two SAEs of a run."""
    assert abench("run", *TINY, "--variants", "topk", "--results", tmp_path).code == 0
    return tmp_path


def test_the_page_is_refreshed_while_a_run_goes_on_and_ctrl_c_ends_it(abench: Abench, begun: Path) -> None:
    both = (*TINY, "--variants", "topk,abstopk", "--results", begun)
    with running("report", *both, "--name", "both", "--serve", "--port", "0") as process:
        address = address_of(process)
        assert address.startswith("http://127.0.0.1:")
        status, page = get(address)
        assert status == 200 and lacks(page) and b'id="page-live"' in page
        assert b"page-live" not in (begun / "reports/both/index.html").read_bytes()
        version = json.loads(get(f"{address}state")[1])["version"]
        assert get(f"{address}data.csv")[1] == (begun / "reports/both/data.csv").read_bytes()
        wait_until(lambda: "cells are settled" in json.loads(get(f"{address}state")[1])["note"])
        assert abench("run", *both, "--name", "other").code == 0
        wait_until(lambda: json.loads(get(f"{address}state")[1])["version"] != version)
        wait_until(lambda: not lacks(get(address)[1]))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stdout.read()  # type: ignore[union-attr]
        with pytest.raises(urllib.error.URLError):
            get(address)


def test_only_files_of_the_report_are_served_to_this_machine(begun: Path) -> None:
    (begun / "secret.txt").write_text("secret")
    with running(
        "report", *TINY, "--variants", "topk", "--results", begun, "--serve", "--port", "0"
    ) as process:
        address = address_of(process)
        folder = begun / "reports/default"
        (folder / ".hidden").write_text("secret")
        (folder / "link.txt").symlink_to(begun / "secret.txt")
        for name in (
            "nothing.html",
            ".hidden",
            "link.txt",
            "../../secret.txt",
            "%2e%2e/%2e%2e/secret.txt",
            "a/b",
        ):
            assert get(address + name)[0] == 404, name
        assert get(address, Host="evil.example")[0] == 403
        port = int(address.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("HEAD", "/table.csv")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        assert answer.getheader("Cache-Control") == "no-store"
        connection.close()
        with socket.socket() as other:
            # Nothing listens at this machine's other addresses.
            other.settimeout(5)
            assert other.connect_ex(("127.0.0.2", port)) != 0
        with running(
            "report", *TINY, "--variants", "topk", "--results", begun, "--serve", "--port", str(port)
        ) as second:
            said = second.communicate(timeout=60)[0]
            assert second.returncode == 2 and f"port {port} of 127.0.0.1 cannot be used" in said


def test_the_browser_reloads_once_cells_are_settled(abench: Abench, begun: Path, chromium: Any) -> None:
    both = (*TINY, "--variants", "topk,abstopk", "--results", begun)
    with (
        running("report", *both, "--serve", "--port", "0") as process,
        opened(chromium, address_of(process)) as page,
    ):
        page.locator("#live", has_text="settled").wait_for()
        head = page.locator("th", has_text="nMSE").first
        head.locator("button").click()
        page.locator("details.pick summary", has_text="Columns").first.click()
        page.locator("details.pick label", has_text="L0").first.click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert "missing" in page.locator(".counts").inner_text()
        assert abench("run", *both).code == 0
        page.locator(".counts", has_text="missing").wait_for(state="hidden")
        assert page.locator("th", has_text="AbsTopK").count() > 0
        # What was chosen before is chosen again.
        assert page.locator("th", has_text="nMSE").first.get_attribute("aria-sort") == "ascending"
        assert page.locator("details.pick input:not(:checked)").count() == 1
