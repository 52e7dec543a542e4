"""Ways in which a server can answer a request for a chat completion badly, for chat_server's `misbehave`."""

import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from itertools import repeat

Misbehaviour = Callable[[BaseHTTPRequestHandler], None]

JSON = "application/json"


def sends(
    body: bytes | Iterable[bytes], *, status: int = 200, seconds: float = 0.0, **headers: str
) -> Misbehaviour:
    """A response without a length, in pieces, until it ends or the client goes; a pause before each piece."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.send_response(status)
        for name, value in {"Content-Type": JSON, **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        for piece in [body] if isinstance(body, bytes) else body:
            time.sleep(seconds)
            handler.wfile.write(piece)

    return write


def writes(begin: bytes, pieces: Iterable[bytes] = (), *, seconds: float = 0.0) -> Misbehaviour:
    """Raw bytes on the connection."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(begin)
        for piece in pieces:
            time.sleep(seconds)
            handler.wfile.write(piece)

    return write


def counted(pieces: Iterable[bytes], sent: list[int]) -> Iterator[bytes]:
    """The pieces, with the length of each that was asked for in `sent`."""
    for piece in pieces:
        sent.append(len(piece))
        yield piece


def compressed() -> Iterator[bytes]:
    """Endless zeros through gzip: a kilobyte stands for a megabyte."""
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    for piece in repeat(bytes(1 << 24)):
        yield packing.compress(piece)


ENDLESS = repeat(b" " * 65_536)
"""White space: JSON may begin with any amount of it."""
