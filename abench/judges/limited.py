"""An HTTP client for untrusted servers, which limits the time and the size of their responses.

The openai package's client reads responses of any length and follows redirects. Its time-outs apply to each
read, so a server that sends one byte per second never exceeds them.
"""

import asyncio
import json
from typing import Any

import httpx2

from abench.errors import UserError
from abench.sanitize.printable import printable
from abench.sanitize.secrets import hidden

MOST_BYTES = 1 << 20
"""Maximum size of a response, after decompression."""
_MOST_SAID = 200
"""Maximum number of characters of a server's error message."""
_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry")
"""The only headers that are read."""


class LimitedClient(httpx2.AsyncClient):
    """A client that limits each attempt to `seconds`, up to the response's last byte, and never redirects.

    Proxies and certificates come from the environment, as with any client. Responses with a status other than
    2xx are reduced to their message: one line, without secrets, at most 200 characters.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(timeout=seconds, follow_redirects=False)
        self._seconds = seconds

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """The complete response; raises ReadTimeout after `seconds`, and UserError for more than 1 MiB."""
        options |= {"stream": True, "follow_redirects": False}
        try:
            async with asyncio.timeout(self._seconds):
                response = await super().send(request, **options)
                try:
                    content = await _content(response)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise httpx2.ReadTimeout("no whole answer in time", request=request) from error
        if not response.is_success:
            content = _fault(response, content)
        kept = {name: response.headers[name] for name in _HEADERS if name in response.headers}
        headers = {**kept, "content-type": "application/json"}
        return httpx2.Response(response.status_code, headers=headers, content=content, request=request)


async def _content(response: httpx2.Response) -> bytes:
    """The decompressed body, read in pieces of at most 1 MiB and limited to 1 MiB in total."""
    if "," in response.headers.get("content-encoding", ""):
        # With repeated compression, a few bytes can occupy a decoder for hours without any output.
        raise UserError(
            f"{response.url} answered with data that was compressed more than once: is base_url correct?"
        )
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > MOST_BYTES:
            raise UserError(
                f"{response.url} answered with more than {MOST_BYTES >> 20} MiB "
                f"(status {response.status_code}), which no chat completion needs: is base_url correct?"
            )
    return bytes(content)


def _fault(response: httpx2.Response, content: bytes) -> bytes:
    """An error body in the form that the openai package reads, for any response."""
    if "location" in response.headers:
        message = f"it redirects to {response.headers['location']}, which is not followed"
        code = None
    else:
        message, code = _said(content.decode("utf-8", "replace"))
    said = one_line(message, _MOST_SAID) or "no reason given"
    return json.dumps({"error": {"message": said, "code": code}}).encode()


def _said(body: str) -> tuple[str, str | None]:
    """Message and code of an error in the usual form; otherwise the whole body is the message."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return body, None
    error = content.get("error", content) if isinstance(content, dict) else None
    if not isinstance(error, dict):
        return error if isinstance(error, str) else body, None
    message, code = error.get("message"), error.get("code")
    known = code if code == "content_filter" else None
    return message if isinstance(message, str) and message else body, known


def one_line(text: str, most: int) -> str:
    """Untrusted text as one line without secrets, truncated only after their removal."""
    return printable(" ".join(hidden(text).split()))[:most].rstrip(" .")
