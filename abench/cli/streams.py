"""Standard streams that are closed, full or no longer read, none of which is a bug in abench.

A stream that is closed at the start (`>&-`) is treated as /dev/null. If an answer cannot be written, for
example to a full disk, the command reports it in one sentence and exits with status 2. Progress that cannot
be written is dropped, because a run is worth more than its log. If the reader closes the output (`| head`),
the command ends as other tools do: without a message, with the status of a process that SIGPIPE ended.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from abench.errors import cut
from abench.sanitize.printable import printable
from abench.sanitize.secrets import hidden
from abench.streams import AnswerStream

_MOST_LINES, _LONGEST_LINE = 20, 600


def prepare_streams() -> None:
    """Make the three standard streams safe to use, even if they are closed or cannot encode Unicode."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The next file to be opened would get this number, and output would go there by mistake.
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without Unicode, or a file name that is not valid text, must not end a command.
            stream.reconfigure(errors="backslashreplace")


def complain(message: str) -> None:
    """Write a message to stderr: no control characters, a bounded number of lines of bounded length."""
    lines = hidden(message).splitlines()  # before shortening, which could leave part of a secret
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more lines"]
    try:
        for line in lines:
            print(f"abench: {cut(printable(line), _LONGEST_LINE)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # Nothing is left to write to; only the exit status reports the failure.
        return


@contextmanager
def answers() -> Iterator[None]:
    """While active, a failure to write to stdout raises OutputClosed or OutputFailed."""
    stream = sys.stdout
    if stream is None:
        yield
        return
    sys.stdout = cast(TextIO, AnswerStream(stream))
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout = stream


def settle_streams() -> None:
    """Discard what is still buffered for broken streams; Python would otherwise report an error on exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
