"""The `abench` command. Modules here know click and nothing else does; torch is imported when needed."""

import os
import sys
from itertools import pairwise

import click

from abench import __version__
from abench.cli.doctor import doctor
from abench.cli.listing import list_group
from abench.cli.new import new
from abench.cli.report import report
from abench.cli.run import run, status
from abench.cli.show import explain, show
from abench.cli.streams import answers, complain, prepare_streams, settle_streams
from abench.cli.tinyworld import tinyworld

EXIT_USAGE, EXIT_INTERRUPTED, EXIT_OUTPUT_CLOSED = 2, 130, 141
_COMPLETE = "_ABENCH_COMPLETE"
"""The variable by which a shell asks click for completions."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="abench")
def cli() -> None:
    """Train sparse autoencoders, score them, compare them. Signed latents included.

    `abench run` alone is a complete example on a small model that comes with abench: no network, no GPU.

    Exit status: 0 done, 1 a bug in abench, 2 a mistake in the request or a refusal of the machine (disk full,
    no memory), 3 some cells failed, 4 incomplete, 130 interrupted, 141 the reader of the output went away.
    """


for command in (run, status, report, list_group, show, explain, new, doctor, tinyworld):
    cli.add_command(command)


def main() -> None:
    """Entry point: the user's mistakes and what the machine refuses as sentences, ours as tracebacks."""
    from abench.secrets import hide_in_output, notice

    # OpenMP threads that spin long while they wait make a run many times slower as soon as anything else uses
    # a core; ones that never spin make it a third slower on an idle machine. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    prepare_streams()
    hide_in_output()
    notice("\n".join(sys.argv))
    code = _run(sys.argv[1:])
    settle_streams()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """The exit status of a command; errors that are the user's or the machine's are reported on stderr."""
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
        complain(f"the output cannot be written: {error}")
        return EXIT_USAGE
    except (KeyboardInterrupt, click.exceptions.Abort):
        complain("interrupted; the same command goes on where this one stopped")
        return EXIT_INTERRUPTED
    except (OSError, MemoryError, RuntimeError) as error:
        cause = outside_cause(error)
        if cause is None:
            raise
        again = "; the same command goes on where this one stopped" if arguments[:1] == ["run"] else ""
        complain(cause + again)
        return EXIT_USAGE


def _invoke(arguments: list[str]) -> int:
    """Runs a command. click's own `main` turns a closed pipe into exit status 1, which is for our bugs."""
    if _COMPLETE in os.environ:
        cli.main(arguments, prog_name="abench", complete_var=_COMPLETE)
    with cli.make_context("abench", list(arguments)) as context:
        return int(cli.invoke(context) or 0)


def _refuse_empty(arguments: list[str]) -> None:
    """No option and no argument of any command means something where it is empty: a variable was not set."""
    for before, argument in pairwise(["abench", *arguments]):
        option, equals, value = argument.partition("=")
        if not argument or (equals and not value and option.startswith("--")):
            name = option or (before if before.startswith("-") else "an argument")
            raise click.UsageError(f"{name} is empty")
