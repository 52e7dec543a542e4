"""A report's page on this machine only, which reloads in the browser when the report has been replaced."""

import json
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from urllib.parse import unquote, urlsplit

from abench.errors import UserError
from abench.report.manifest import MANIFEST
from abench.storage.files import file_hash

HOST = "127.0.0.1"
STATE = "state"
"""The address that the page asks for the state of the report, as JSON."""


class ServedReport:
    """The folder of a report, and what the run is doing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.note = ""
        """What the page shows of the run, such as `2 cells missing`."""

    def state(self) -> dict[str, str]:
        """`version`, which changes with the report, and `note`."""
        return {"version": file_hash(self.folder / MANIFEST), "note": self.note}

    def file(self, name: str) -> Path | None:
        """A file directly in the folder by its name; None if there is no such file of a report."""
        shown = {
            each.name: each for each in self.folder.iterdir() if each.is_file() and not each.is_symlink()
        }
        return None if name.startswith(".") else shown.get(name)


@contextmanager
def serving(report: ServedReport, port: int) -> Iterator[str]:
    """Serve the report on 127.0.0.1 in threads; yields its address. Port 0 takes any free port.

    Raises UserError if the port cannot be used.
    """
    handler = type("Handler", (_Handler,), {"report": report})
    try:
        server = ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise UserError(
            f"port {port} of {HOST} cannot be used ({error.strerror}): choose another one with --port, "
            "or --port 0 for any free one"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the files of a report."""

    report: ServedReport
    server: ThreadingHTTPServer

    def do_GET(self) -> None:
        """Answer with a file, or the state of the report."""
        port = self.server.server_port
        # Another name in the address would be a page elsewhere that resolves to this machine.
        if self.headers.get("Host") not in {f"{HOST}:{port}", f"localhost:{port}"}:
            self._answer(403, "text/plain", b"This server answers its own address only.\n")
            return
        name = unquote(urlsplit(self.path).path).removeprefix("/")
        try:
            found = self._found(name)
        except FileNotFoundError:
            # For a moment, while the report is being replaced, its folder is not there.
            self._answer(503, "text/plain", b"The report is being replaced.\n")
            return
        if found is None:
            self._answer(404, "text/plain", b"The report has no such file.\n")
        else:
            self._answer(200, *found)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Print nothing: requests are not of interest."""

    def _found(self, name: str) -> tuple[str, bytes] | None:
        """Type and content of an answer."""
        if name == STATE:
            return "application/json", json.dumps(self.report.state()).encode()
        file = self.report.file(name or "index.html")
        if file is None:
            return None
        content = file.read_bytes()
        if file.name == "index.html":
            return "text/html; charset=utf-8", _live(content)
        return mimetypes.guess_type(file.name)[0] or "application/octet-stream", content

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _live(page: bytes) -> bytes:
    """The page with the script that reloads it."""
    script = resources.files("abench.report.interactive").joinpath("files", "live.js").read_bytes()
    before, end, after = page.rpartition(b"</body>")
    return before + b'<script id="page-live">' + script + b"</script>\n" + end + after
