"""What the command line reads from and writes to may be full, closed or gone; none of it is a bug of ours.

Closed before we started (`>&-`): as if it were /dev/null. Full: the answer could not be given, a sentence and
exit status 2; progress is dropped, since a run is worth more than its log. The reader gone (`| head`): we end
as other tools do, without a word and with the status of a process that SIGPIPE ended.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from abench.errors import cut
from abench.printable import printable
from abench.secrets import hidden
from abench.streams import AnswerStream

_MOST_LINES, _LONGEST_LINE = 20, 600


def prepare_streams() -> None:
    """Make the three standard streams safe to use, whatever they are connected to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The next file that is opened would get this number, and be written to by mistake.
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without Unicode, or a file's name that is none, must not end a command.
            stream.reconfigure(errors="backslashreplace")


def complain(message: str) -> None:
    """Write a message of ours to stderr: each line bounded in length, without control characters."""
    lines = hidden(message).splitlines()  # before a cut leaves part of a secret
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more lines"]
    try:
        for line in lines:
            print(f"abench: {cut(printable(line), _LONGEST_LINE)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # There is nowhere left to say it; the exit status remains.
        return


@contextmanager
def answers() -> Iterator[None]:
    """What is written to stdout inside is an answer; nothing of one that failed is left for Python's exit."""
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
    """Send what broken streams still hold to nowhere, or Python would complain about it when it exits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
