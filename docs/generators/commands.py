"""The reference of the command line, read from its commands."""

import inspect
from collections.abc import Iterator

import click

from abench.cli import cli
from generators.markdown import table

WIDTH = 110


def page() -> str:
    """Every command with its help, its arguments and its options."""
    intro = "What `--help` prints, for all commands. [The command line](../cli.md) explains them."
    parts = ["# Commands and options", intro]
    for path, command in commands(cli):
        parts += [f"## {' '.join(path)}", _usage(path, command), _help(command), _options(path, command)]
    return "\n\n".join(filter(None, parts)) + "\n"


def summary(_: str = "") -> str:
    """A table with the first sentence on each command, with a link to its part of the page."""
    rows = [
        (f"[`{' '.join(path)}`](reference/commands.md#{'-'.join(path)})", _first_sentence(command))
        for path, command in commands(cli)
        if not isinstance(command, click.Group)
    ]
    return table(("command", "what it does"), rows)


def commands(
    command: click.Command, path: tuple[str, ...] = ("abench",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all commands below it, with the words that call them."""
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from commands(command.commands[name], (*path, name))


def _context(path: tuple[str, ...], command: click.Command) -> click.Context:
    return click.Context(command, info_name=" ".join(path), terminal_width=WIDTH)


def _usage(path: tuple[str, ...], command: click.Command) -> str:
    return f"```text\n{command.get_usage(_context(path, command)).removeprefix('Usage: ')}\n```"


def _help(command: click.Command) -> str:
    """The help as Markdown; paragraphs that click does not wrap keep their lines."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(map(_paragraph, paragraphs))


def _paragraph(text: str) -> str:
    return f"```text\n{text[1:].strip()}\n```" if text.startswith("\b") else text


def _first_sentence(command: click.Command) -> str:
    text = " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".")


def _options(path: tuple[str, ...], command: click.Command) -> str:
    context = _context(path, command)
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    return table(("option", ""), [(f"`{names}`", text) for names, text in filter(None, records)])
