"""The `abench` command. Modules here know click and nothing else does; torch is imported when needed."""

import os
import sys

import click

from abench import __version__
from abench.cli.doctor import doctor
from abench.cli.listing import list_group
from abench.cli.new import new
from abench.cli.report import report
from abench.cli.run import run, status
from abench.cli.show import explain, show
from abench.cli.tinyworld import tinyworld

EXIT_BUG, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="abench")
def cli() -> None:
    """Train sparse autoencoders, score them, compare them. Signed latents included.

    `abench run` alone is a complete example on a small model that comes with abench: no network, no GPU.

    Exit status: 0 done, 1 a bug in abench, 2 a mistake in what was asked, 3 some cells failed,
    4 incomplete, 130 interrupted.
    """


for command in (run, status, report, list_group, show, explain, new, doctor, tinyworld):
    cli.add_command(command)


def main() -> None:
    """Entry point: the user's mistakes as sentences, ours as tracebacks."""
    from abench.errors import UserError
    from abench.printable import printable
    from abench.secrets import hide_in_output, notice

    hide_in_output()
    notice("\n".join(sys.argv))
    # OpenMP threads that spin long while they wait make a run many times slower as soon as anything else uses
    # a core; ones that never spin make it a third slower on an idle machine. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        code = cli(standalone_mode=False)
    except UserError as error:
        for line in str(error).splitlines():
            click.echo(f"abench: {printable(line)}", err=True)
        sys.exit(EXIT_USAGE)
    except click.exceptions.Abort:
        click.echo("abench: interrupted; the same command goes on where this one stopped", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        click.echo("abench: interrupted; the same command goes on where this one stopped", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`abench list | head`); nothing is wrong.
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code or 0)
