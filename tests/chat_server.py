"""An OpenAI-compatible server on localhost: real HTTP, answers and faults as a test wants them."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

# Clients wait this long before they try again, instead of half a second and more.
SOON = {"retry-after-ms": "5"}


@dataclass(frozen=True)
class Says:
    """One response: a chat completion with `text`, unless `body` says otherwise."""

    text: str | None = "yes"
    status: int = 200
    body: str | None = None
    seconds: float = 0.0
    hang_up: bool = False
    misbehave: Callable[[BaseHTTPRequestHandler], None] | None = None
    """Writes the response instead, in whatever way; see misbehaviour.py."""

    def content(self) -> bytes:
        if self.body is not None:
            return self.body.encode()
        if self.status != 200:
            return json.dumps({"error": {"message": f"fault {self.status}", "code": None}}).encode()
        message = {"role": "assistant", "content": self.text}
        usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()


@dataclass
class ChatServer:
    """`answer` is called with each request and the number of requests before it."""

    answer: Callable[[dict[str, Any], int], Says]
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def chat_server(answer: Callable[[dict[str, Any], int], Says] | Says) -> Iterator[ChatServer]:
    """A server as long as the context lasts."""
    state = ChatServer(answer if callable(answer) else lambda _request, _n: answer)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                says = state.answer(request, len(state.asked))
                state.asked.append({"path": self.path, **request})
                state.keys.append(self.headers["Authorization"])
                state.under_way += 1
                state.most_under_way = max(state.most_under_way, state.under_way)
            time.sleep(says.seconds)
            with lock:
                # Before the response, or a client could ask again before it counts as answered.
                state.under_way -= 1
            with suppress(ConnectionError):  # a client that lost patience has hung up
                (says.misbehave or self._respond_with(says))(self)

        def _respond_with(self, says: Says) -> Callable[[BaseHTTPRequestHandler], None]:
            return lambda _handler: self._respond(says)

        def _respond(self, says: Says) -> None:
            content = says.content()
            self.send_response(says.status)
            # Said, or the client would use the connection again, lose it, and try once more.
            self.send_header("Connection", "close")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in SOON.items():
                self.send_header(name, value)
            self.end_headers()
            # A broken connection: less comes than was announced.
            self.wfile.write(content[: len(content) // 2] if says.hang_up else content)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # closing waits for them, so that none outlives its test
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients reach localhost, whatever the machine's network is like."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
