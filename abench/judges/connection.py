"""Chat completions from an OpenAI-compatible endpoint, with errors as plain sentences."""

import asyncio
import os
import threading
import weakref
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, cast

import httpx2

from abench.errors import UserError
from abench.judges.completion import Completion, read_completion
from abench.judges.exchange import Messages
from abench.judges.limited import LimitedClient, one_line

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI

    from abench.judges.endpoint import Endpoint

_MOST_SAID = 200


class Connection:
    """A client of an endpoint.

    Requests run in an event loop in a separate thread, so that each can be cancelled at any time; threads
    that wait for a socket could not be. `complete` may be called from several threads at once.
    """

    def __init__(self, endpoint: "Endpoint", key: str) -> None:
        from openai import AsyncOpenAI

        self._endpoint = endpoint
        self._abandoned = False
        self._client = AsyncOpenAI(
            api_key=key,
            base_url=endpoint.base_url,
            timeout=endpoint.timeout,
            max_retries=endpoint.retries,
            http_client=_client(endpoint.timeout),
        )
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=_serve, args=(self._loop, self._client), daemon=True).start()
        weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)

    def complete(self, messages: Messages) -> Completion:
        """The answer to a chat; raises UserError with one sentence if there is none.

        Raises CancelledError if the connection has been or is being abandoned.
        """
        if self._abandoned:
            raise CancelledError
        future = asyncio.run_coroutine_threadsafe(_ask(self._client, self._endpoint, messages), self._loop)
        try:
            return future.result()
        finally:
            # For an interrupt of this thread; has no effect on a finished future.
            future.cancel()

    def abandon(self) -> None:
        """Cancel all running requests and refuse new ones."""
        self._abandoned = True
        self._loop.call_soon_threadsafe(_cancel_all, self._loop)


def _client(seconds: float) -> LimitedClient:
    try:
        return LimitedClient(seconds)
    except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
        raise UserError(
            f"the environment's proxy or certificates cannot be used ({one_line(str(error), _MOST_SAID)}): "
            "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE"
        ) from None


async def _ask(client: "AsyncOpenAI", endpoint: "Endpoint", messages: Messages) -> Completion:
    from openai import APIError

    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=endpoint.model,
            messages=cast(Any, [dict(message) for message in messages]),
            extra_body=dict(endpoint.parameters),
        )
    except APIError as error:
        if getattr(error, "code", None) == "content_filter":
            return Completion("", "content_filter", None)
        # Without the cause, because its request contains the key.
        raise UserError(_sentence(error, endpoint)) from None
    # Parsed here and not by the client, which accepts any response.
    return read_completion(raw.http_response.content, endpoint.base_url)


def _serve(loop: asyncio.AbstractEventLoop, client: "AsyncOpenAI") -> None:
    """Run the loop until it is stopped, then close its resources."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = _cancel_all(loop)
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(client.close())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> set["asyncio.Task[Any]"]:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    return tasks


def _sentence(error: "APIError", endpoint: "Endpoint") -> str:
    """A sentence on the final error and what to do about it."""
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    where, tries = endpoint.base_url, "1 try" if endpoint.retries == 0 else f"{endpoint.retries + 1} tries"
    again = "Earlier answers are cached; the same command requests only the rest."
    if isinstance(error, APITimeoutError):
        return f"{where} did not answer within {endpoint.timeout:g} seconds, in {tries}. {again}"
    if isinstance(error, APIConnectionError):
        return f"{where} could not be reached, in {tries}: {_cause(error)}. {again}"
    if not isinstance(error, APIStatusError):
        return f"{where} failed: {_said(error)}. {again}"
    status = error.status_code
    if 300 <= status < 400:
        return f"{where} redirects (status {status}: {_said(error)}): set base_url to the final address"
    if status in {401, 403}:
        return (
            f"{where} refuses the key in {endpoint.key_variable} (status {status}: {_said(error)}): "
            f"set it to a key with access to {endpoint.model}"
        )
    if status == 404:
        return f"{where} has no model '{endpoint.model}' or no chat completions (status 404: {_said(error)})"
    if status == 429:
        return f"{where} reports a rate limit or no credit, in {tries} (status 429: {_said(error)}). {again}"
    if status >= 500:
        return f"{where} failed in {tries} (status {status}: {_said(error)}). {again}"
    return f"{where} does not accept the request (status {status}: {_said(error)})"


def _said(error: "APIError") -> str:
    """The server's message, as one short line."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return one_line(str(message or error.message), _MOST_SAID)


def _cause(error: BaseException) -> str:
    """The root cause of a lost connection."""
    while (deeper := _deeper(error)) is not None:
        error = deeper
    if isinstance(error, ConnectionError) and error.errno is not None:
        # asyncio's own message contains only the address.
        return os.strerror(error.errno)
    return one_line(str(error), _MOST_SAID) or type(error).__name__


def _deeper(error: BaseException) -> BaseException | None:
    """The error that caused this one, or None."""
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__ or error.__context__
