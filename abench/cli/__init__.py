"""The `abench` command. Only the modules in this package use click; torch is imported only when needed."""

import os
import sys
from itertools import pairwise

import click

from abench.cli.compare import compare
from abench.cli.doctor import doctor
from abench.cli.export import export
from abench.cli.fetch import fetch
from abench.cli.importing import import_command
from abench.cli.latents import latents
from abench.cli.listing import list_group
from abench.cli.new import new
from abench.cli.reliability import reliability
from abench.cli.report import report
from abench.cli.run import run
from abench.cli.show import explain, show
from abench.cli.status import status
from abench.cli.streams import answers, complain, prepare_streams, settle_streams
from abench.cli.tinyworld import tinyworld
from abench.version import __version__

EXIT_USAGE, EXIT_INTERRUPTED, EXIT_OUTPUT_CLOSED = 2, 130, 141
_COMPLETE = "_ABENCH_COMPLETE"
"""The environment variable through which a shell requests completions from click."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="abench")
def cli() -> None:
    """Train, score and compare sparse autoencoders, including ones with signed latents.

    `abench run` without arguments is a complete example on a small bundled model; it needs no network and no
    GPU.

    Exit status: 0 done, 1 a bug in abench, 2 a mistake in the request or a limit of the machine (disk full,
    out of memory), 3 some cells failed, 4 incomplete, 130 interrupted, 141 output closed by its reader.
    """


for command in (
    *(run, status, report, compare, reliability, list_group, fetch, import_command, show, latents, explain),
    *(export, new, doctor, tinyworld),
):
    cli.add_command(command)


def main() -> None:
    """Entry point. Mistakes of the user and limits of the machine become sentences, bugs tracebacks."""
    from abench.foreign import own_output
    from abench.sanitize.secrets import hide_in_output, notice

    # If OpenMP's waiting threads spin for long, a run becomes many times slower as soon as another process
    # uses a core; if they never spin, it is a third slower on an idle machine. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    prepare_streams()
    hide_in_output()
    own_output()
    notice("\n".join(sys.argv))
    code = _run(sys.argv[1:])
    settle_streams()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run a command and return its exit status; all errors but bugs are reported on stderr."""
    from abench.errors import OutputClosed, UserError, outside_cause
    from abench.streams import OutputFailed

    try:
        _refuse_empty(arguments)
        with answers():
            return _invoke(arguments)
    except UserError as error:
        complain(str(error))
        return EXIT_USAGE
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.ClickException as error:
        complain(error.format_message())
        return EXIT_USAGE
    except OutputClosed:
        return EXIT_OUTPUT_CLOSED
    except OutputFailed as error:
        complain(f"cannot write the output: {error}")
        return EXIT_USAGE
    except (KeyboardInterrupt, click.exceptions.Abort):
        complain("interrupted; run the same command again to resume")
        return EXIT_INTERRUPTED
    except (OSError, MemoryError, RuntimeError) as error:
        cause = outside_cause(error)
        if cause is None:
            raise
        again = "; run the same command again to resume" if arguments[:1] == ["run"] else ""
        complain(cause + again)
        return EXIT_USAGE


def _invoke(arguments: list[str]) -> int:
    """Run a command. Not by click's `main`, which ends with status 1, reserved for bugs, on a closed pipe."""
    if _COMPLETE in os.environ:
        cli.main(arguments, prog_name="abench", complete_var=_COMPLETE)
    with cli.make_context("abench", list(arguments)) as context:
        return int(cli.invoke(context) or 0)


def _refuse_empty(arguments: list[str]) -> None:
    """Raise UsageError for an empty option or argument: no command accepts one, so a variable was not set."""
    for before, argument in pairwise(["abench", *arguments]):
        option, equals, value = argument.partition("=")
        if not argument or (equals and not value and option.startswith("--")):
            name = option or (before if before.startswith("-") else "an argument")
            raise click.UsageError(f"{name} is empty")
