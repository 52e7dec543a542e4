"""`abench new task|variant|judge NAME` generates starter code and its test."""

import keyword
import re
from collections.abc import Callable, Collection
from importlib import resources
from pathlib import Path
from typing import Any

import click

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_IMPORTED = {
    "task": ("Any", "Context", "LanguageModel", "Metric", "Scores", "Task", "TokenRows"),
    "variant": ("Callable", "ClassVar", "Field", "Tensor", "Variant"),
    "judge": ("Excerpt", "Exchange", "Field", "LatentContexts", "OwnJudge", "Sequence", "Verdict"),
}
"""Names that the templates import; a class with one of these names would hide the import."""


@click.group()
def new() -> None:
    """Generate starter code."""


def _placed(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The arguments that all commands take: a name and the folder to write to."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        folder = click.option(
            "--dir",
            "folder",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path(default),
            show_default=True,
            help="Folder to write to; created if needed.",
        )
        return click.argument("name")(folder(command))

    return add


@new.command()
@_placed("my_tasks")
def task(name: str, folder: Path) -> None:
    """Write NAME.py, a task that is ready to run, and test_NAME.py.

    Try it with `abench run --plugins my_tasks --tasks NAME`.
    """
    _write("task", name, folder, f"--tasks {name}")


@new.command()
@_placed("my_variants")
def variant(name: str, folder: Path) -> None:
    """Write NAME.py, a variant that is ready to run, and test_NAME.py.

    The test compares the proximal operator with the minimum of its objective. Try the variant with `abench
    run --plugins my_variants --variants NAME,abstopk`.
    """
    from abench.variants import variant_names

    _check_free(name, "variant", variant_names())
    _write("variant", name, folder, f"--variants {name},abstopk")


@new.command()
@_placed("my_judges")
@click.option(
    "--of",
    "judged",
    type=click.Choice(["replies", "latents"]),
    default="replies",
    show_default=True,
    help="What it judges: replies, for safety_utility, or the two sides of latents, for bidirectionality.",
)
def judge(name: str, folder: Path, judged: str) -> None:
    """Write NAME.py, a judge that is ready to run, and test_NAME.py.

    Try it with `abench run --plugins my_judges --tasks safety_utility --set
    task_options.safety_utility.judge=NAME`.
    """
    from abench.judges.registry import taken_names

    _check_free(name, "judge", taken_names())
    template, by = ("judge", "safety_utility") if judged == "replies" else ("pole_judge", "bidirectionality")
    _write("judge", name, folder, f"--tasks {by} --set task_options.{by}.judge={name}", template=template)


def _check_free(name: str, kind: str, taken: Collection[str]) -> None:
    """Raise UserError for the name of a plug-in that comes with abench."""
    from abench.errors import UserError

    if name in taken:
        raise UserError(f"the name '{name}' is taken by a {kind} that comes with abench: choose another")


def _write(kind: str, name: str, folder: Path, choice: str, *, template: str | None = None) -> None:
    """Write the templates of a kind under a name; raises UserError if the name or a file is not possible."""
    from abench.errors import UserError, short

    class_name = "".join(part.capitalize() for part in name.split("_"))
    taken = keyword.iskeyword(name) or keyword.iskeyword(class_name) or class_name in _IMPORTED[kind]
    if taken or not _NAME.fullmatch(name):
        raise UserError(
            f"{short(name)} cannot be the name of a {kind}: use up to 60 lower-case letters, digits and "
            "underscores, beginning with a letter, and no word that Python or the template uses"
        )
    source = template or kind
    files = {folder / f"{name}.py": f"{source}.py.txt", folder / f"test_{name}.py": f"test_{source}.py.txt"}
    for file in files:
        if file.exists():
            raise UserError(f"{file} exists already; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    words = {f"{kind.upper()}_NAME": name, f"{kind.capitalize()}Class": class_name}
    for file, copied in files.items():
        text = resources.files("abench.cli").joinpath("templates", copied).read_text(encoding="utf-8")
        for word, own in words.items():
            text = text.replace(word, own)
        file.write_text(text, encoding="utf-8")
        click.echo(f"wrote {file}")
    click.echo(f"try it: abench run --plugins {folder} {choice}\ntest it: pytest {folder}")
