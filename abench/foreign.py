"""What other libraries print: their bars and notices stay out of abench's output.

Errors still raise. Warnings remain, one line each, unless they are addressed to programmers. Everything set
here is a default: what the user has set in the environment, or with Python's option -W, stays.
"""

import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any, TextIO, cast

_SETTINGS = {
    "TQDM_DISABLE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "LMEVAL_LOG_LEVEL": "ERROR",
}
"""Environment variables that the libraries read when they are imported."""
_OFF_A_TERMINAL = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""On a terminal, the hub's bars remain, because downloading a model takes long."""
_LOGGERS = ("datasets", "huggingface_hub", "lm_eval", "sae_lens", "transformer_lens", "transformers")

_REDRAWN = re.compile(r"\r(?!\n)")
_PARALLEL = "TOKENIZERS_PARALLELISM"


def hush_libraries() -> None:
    """Keep the libraries that abench uses from reporting progress and giving advice.

    Complete only if called before they are imported, as the command line does.
    """
    off_terminal = {} if _is_terminal() else _OFF_A_TERMINAL
    for name, value in (_SETTINGS | off_terminal).items():
        os.environ.setdefault(name, value)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def own_output() -> None:
    """Make this process's stderr abench's own, for the command line.

    Warnings become lines, bars that are drawn in spite of `hush_libraries` are dropped from logs, and forks
    cause no notice of the tokenizers library.
    """
    hush_libraries()
    if not sys.warnoptions:
        # These are for the authors of the code that causes them.
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
    warnings.showwarning = _show_on_one_line
    if sys.stderr is not None and not _is_terminal() and not isinstance(sys.stderr, WithoutBars):
        sys.stderr = cast(TextIO, WithoutBars(sys.stderr))
    global _watches_forks
    if not _watches_forks:
        _watches_forks = True
        if hasattr(os, "fork"):
            os.register_at_fork(before=_before_fork, after_in_parent=_after_fork)


class WithoutBars:
    """A wrapper of a text stream that drops lines which overwrite themselves, as progress bars do.

    A bar is written piece by piece, each starting with a carriage return. The line break that may follow
    the last piece is dropped as well.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._after_bar = False

    def write(self, text: str) -> int:
        bar = _REDRAWN.search(text)
        if bar is not None:
            self._after_bar = True
            self._stream.write(text[: text.rfind("\n", 0, bar.start()) + 1])
        elif not self._after_bar or text.strip("\n\x1b[A "):
            self._after_bar = False
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _show_on_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as `warning (sklearn): message`, in place of its code."""
    del lineno, line
    stream = file or sys.stderr
    if stream is not None:
        parts = Path(filename).parts
        package = parts[parts.index("site-packages") + 1] if "site-packages" in parts else Path(filename).stem
        said = " ".join(str(message).split()) or category.__name__
        print(f"warning ({package.removesuffix('.py')}): {said}", file=stream)


_watches_forks = False
_set_for_fork: list[str] = []


def _before_fork() -> None:
    """Turn off the tokenizers library's threads in the child, which it would do itself, with a notice."""
    if _PARALLEL not in os.environ:
        os.environ[_PARALLEL] = "false"
        _set_for_fork.append(_PARALLEL)


def _after_fork() -> None:
    while _set_for_fork:
        os.environ.pop(_set_for_fork.pop(), None)
