"""Errors that a user can cause, reported as sentences; any other error is a bug and keeps its traceback."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_SHORT = 80
"""Most characters of a value that a message shows."""
_MEMORY_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
"""Parts of the messages of torch's out-of-memory errors, which are RuntimeErrors."""
_ALLOCATION = re.compile(r"[Tt]ried to allocate (\d+(?:\.\d+)?) (bytes|[KMGT]iB)")
"""The part of these messages that states how much was requested."""


class UserError(Exception):
    """A mistake in the request. The message states in one sentence what is wrong, where, and what to do next.

    The command line prints it without a traceback and exits with status 2.
    """


class OptionError(UserError):
    """An invalid option of a task or variant; `path` is the key path of the option."""

    def __init__(self, message: str, path: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.path = path


class MemoryShortageError(UserError):
    """The machine does not have the memory for what was requested, however small the batches."""


class OutputClosed(KeyboardInterrupt):
    """The reader of the output has closed it, as in `abench run 2>&1 | head`.

    It ends the work as Ctrl-C does: code that handles failures of cells or tasks does not catch it.
    """


def short(value: object) -> str:
    """The repr of a value for messages; the middle of a long one is replaced by an ellipsis."""
    if isinstance(value, int) and abs(value) > 10**_SHORT:
        return f"a whole number of {value.bit_length()} bits"  # Python refuses to print 5,000 digits
    if isinstance(value, str):
        value = cut(value, _SHORT)
    return cut(repr(value), _SHORT + 2)


def cut(text: str, length: int) -> str:
    """A text of at most `length` characters: the middle of a longer one is replaced by an ellipsis."""
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'topk'?"` for a near miss of a known name, otherwise the list of known names."""
    names = sorted(known)
    near = get_close_matches(cut(name, _SHORT), names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""


def outside_cause(error: BaseException) -> str | None:
    """The sentence for a failure that is neither the user's mistake nor a bug; None for any other error.

    These are the limits of the machine: storage (OSError), memory, recursion depth. All code that reports
    such failures as sentences calls this function, so that the sentences are the same everywhere.
    """
    if isinstance(error, OSError):
        place = next((str(name) for name in (error.filename2, error.filename) if name is not None), None)
        cause = error.strerror or str(error) or type(error).__name__
        return f"{place}: {cause}" if place else cause
    if is_out_of_memory(error):
        wanted = requested_memory(error)
        return "there is not enough memory" + (f" ({wanted})" if wanted else "")
    if isinstance(error, RecursionError):
        return "something is nested too deeply"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch says that memory has run out, on the CPU or a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True  # the second is torch's class, which is not imported here
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _MEMORY_SIGNS)


def requested_memory(error: BaseException) -> str | None:
    """How much memory was requested when it ran out; None if the error does not state it."""
    found = _ALLOCATION.search(str(error))
    if found is None:
        return None
    amount, unit = found.groups()
    shown = f"{int(amount) / 2**20:,.1f} MiB" if unit == "bytes" else f"{amount} {unit}"
    return f"torch tried to allocate {shown}"
