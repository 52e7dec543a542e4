"""Streams that know what a failure to write means: for an answer the end, for progress nothing."""

import errno
from typing import Any, TextIO

from abench.errors import OutputClosed


class OutputFailed(Exception):  # noqa: N818 - named as OutputClosed is
    """An answer could not be written; the message is the system's reason."""


class AnswerStream:
    """A stream for answers. Raises OutputClosed if the reader has gone, OutputFailed if it cannot be written.

    An OSError would not tell that it was the output and no file of the run that failed.
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
    """A stream for progress: what cannot be written is dropped, unless it is the reader that has gone."""

    def _failed(self, error: OSError) -> None:
        _end_if_gone(error)


def _end_if_gone(error: OSError) -> None:
    if error.errno == errno.EPIPE:
        raise OutputClosed from error
