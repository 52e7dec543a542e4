"""The stand-in hub's HTTP server: the part of the hub's interface that reading clients use.

`X-Error-Code` and the status tell the clients what is wrong, as on the real hub: an unknown repository is 401
without a token and 404 with one, a gated one shows its description to all and its files to none (401) or to
those who were let in (403 for others).
"""

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub.repository import Commit, Kind, Repository, digest, is_large

MEMBER_TOKEN = "hf_member"
"""A token whose owner has accepted all licences."""
STRANGER_TOKEN = "hf_stranger"
"""A token whose owner has accepted none."""


@dataclass
class Fault:
    """What goes wrong on the way: for the next `times` downloads whose path matches `path`."""

    path: str
    times: int = 1
    status: int | None = None
    """Answer with this status; None begins to answer and closes the connection."""
    sent: float = 0.5
    """The share of the answer's body that is sent before the connection is closed."""


@dataclass(frozen=True)
class Asked:
    """A request that came in."""

    method: str
    path: str
    token: str | None


class Hub:
    """Serves repositories on localhost while its context lasts, and keeps a record of what was asked for."""

    def __init__(self, repositories: Iterable[Repository], *, aliases: dict[str, str] | None = None) -> None:
        self.repositories = {(each.kind, each.id): each for each in repositories}
        self.aliases = aliases or {}
        """Former ids of data sets; the hub redirects from them."""
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        # By name: the clients put "datasets-server." in front of it to find the data set viewer.
        return f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault_for(self, path: str) -> Fault | None:
        """The fault that strikes a request, which uses it up."""
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return None


@dataclass(frozen=True)
class _Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any) -> "_Answer":
        return cls(body=json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    @classmethod
    def error(cls, status: int, code: str) -> "_Answer":
        headers = {"X-Error-Code": code, "X-Error-Message": code}
        return cls(status, json.dumps({"error": code}).encode(), headers)


_API = re.compile(
    r"^/api/(?P<kind>models|datasets)/(?P<id>[^/]+(?:/(?!(?:revision|refs|tree|paths-info)(?:/|$))[^/]+)?)"
    r"(?:/(?P<what>revision|refs|tree|paths-info)(?:/(?P<revision>[^/]+))?(?:/(?P<path>.+))?)?$"
)
_FILE = re.compile(r"^/(?P<datasets>datasets/)?(?P<id>.+?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    # Otherwise each body waits 40 ms for the client to acknowledge its headers.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._respond()

    def do_HEAD(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read `Hub.asked`; standard error stays theirs."""

    def _respond(self) -> None:
        authorization = self.headers.get("Authorization")
        self._token = authorization.removeprefix("Bearer ") if authorization else None
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(Asked(self.command, self.path, self._token))
        fault = self.hub.fault_for(self.path) if self.command == "GET" else None
        if fault is not None and fault.status is not None:
            self._send(_Answer.error(fault.status, "Fault"))
        else:
            self._send(self._answer(), fault)

    def _send(self, answer: _Answer, fault: Fault | None = None) -> None:
        self.send_response(answer.status)
        length = answer.headers.get("Content-Length", str(len(answer.body)))
        for name, value in {**answer.headers, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            sent = len(answer.body) if fault is None else int(len(answer.body) * fault.sent)
            self.wfile.write(answer.body[:sent])
        if fault is not None:
            self.close_connection = True

    def _answer(self) -> _Answer:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if match := _API.match(path):
            return self._found(match["kind"], match["id"], lambda found: self._api(found, match, url.query))
        if match := _FILE.match(path):
            kind = "datasets" if match["datasets"] else "models"
            return self._found(kind, match["id"], lambda found: self._file(found, match))
        return _Answer.error(404, "NotFound")

    def _found(self, kind: Kind, name: str, answer: Callable[[Repository], _Answer]) -> _Answer:
        """`answer` for the repository of that name; a redirect or the clients' error where there is none."""
        if kind == "datasets" and name in self.hub.aliases:
            location = self.path.replace(f"datasets/{name}", f"datasets/{self.hub.aliases[name]}", 1)
            return _Answer(307, headers={"Location": location})
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return _Answer.error(401 if self._token is None else 404, "RepoNotFound")
        return answer(repository)

    def _api(self, repository: Repository, match: re.Match[str], query: str) -> _Answer:
        if match["what"] == "refs":
            return _Answer.json(_refs(repository))
        commit = repository.at(match["revision"] or "main")
        if commit is None:
            return _Answer.error(404, "RevisionNotFound")
        if match["what"] == "paths-info":
            return self._paths_info(commit)
        if match["what"] == "tree":
            return _tree(commit, match["path"] or "", query)
        return _Answer.json(_description(repository, commit))

    def _paths_info(self, commit: Commit) -> _Answer:
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self._body)["paths"]
        else:
            paths = parse_qs(self._body.decode())["paths"]
        entries = [commit.entry(path.rstrip("/")) for path in ([paths] if isinstance(paths, str) else paths)]
        return _Answer.json([entry for entry in entries if entry is not None])

    def _file(self, repository: Repository, match: re.Match[str]) -> _Answer:
        if repository.gated and self._token != MEMBER_TOKEN:
            return _Answer.error(401 if self._token is None else 403, "GatedRepo")
        commit = repository.at(match["revision"])
        if commit is None:
            return _Answer.error(404, "RevisionNotFound")
        file = commit.files.get(match["path"])
        if file is None:
            return _Answer.error(404, "EntryNotFound")
        etag = digest(file, "sha256" if is_large(file.name) else "sha1")
        size = file.stat().st_size
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        if is_large(file.name):
            headers |= {"X-Linked-Size": str(size), "X-Linked-ETag": f'"{etag}"'}
        if self.command == "HEAD":
            return _Answer(headers=headers | {"Content-Length": str(size)})
        return _part(file.read_bytes(), self.headers.get("Range"), headers)


def _part(content: bytes, asked: str | None, headers: dict[str, str]) -> _Answer:
    """The whole content, or the range of it that was asked for."""
    if asked is None:
        return _Answer(body=content, headers=headers)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or len(content)), len(content) - 1)
    if start >= len(content):
        return _Answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
    content_range = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
    return _Answer(206, content[start : end + 1], headers | content_range)


def _tree(commit: Commit, under: str, query: str) -> _Answer:
    if under and commit.entry(under) is None:
        return _Answer.error(404, "EntryNotFound")
    recursive = parse_qs(query).get("recursive", ["false"])[0].lower() in ("true", "1")
    return _Answer.json(list(commit.tree(under, recursive)))


def _refs(repository: Repository) -> dict[str, Any]:
    def rows(kind: str, named: dict[str, Commit]) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit.sha}
            for name, commit in named.items()
        ]

    branches = rows("heads", {"main": repository.main, **repository.branches})
    return {"branches": branches, "converts": [], "tags": rows("tags", dict(repository.tags))}


def _description(repository: Repository, commit: Commit) -> dict[str, Any]:
    time = "2024-01-01T00:00:00.000Z"
    return {
        "_id": digest(next(iter(commit.files.values())))[:24],
        "id": repository.id,
        "author": repository.id.rpartition("/")[0],
        "sha": commit.sha,
        "lastModified": time,
        "createdAt": time,
        "private": False,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [{"rfilename": name} for name in commit.files],
    }
