"""Output streams whose failures end the command if an answer is written, and are ignored for progress."""

import errno
from typing import Any, TextIO

from abench.errors import OutputClosed


class OutputFailed(Exception):  # noqa: N818 - named like OutputClosed
    """An answer could not be written; the message is the reason that the system gives."""


class AnswerStream:
    """A stream for answers. Raises OutputClosed if the reader has closed it, OutputFailed if writing fails.

    An OSError would not show whether the output or a file of the run could not be written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._failed(error)
        return 0

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        _end_if_gone(error)
        raise OutputFailed(error.strerror) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class LastingStream(AnswerStream):
    """A stream for progress. Raises OutputClosed if the reader has closed it; other failures are ignored."""

    def _failed(self, error: OSError) -> None:
        _end_if_gone(error)


def _end_if_gone(error: OSError) -> None:
    if error.errno == errno.EPIPE:
        raise OutputClosed from error
