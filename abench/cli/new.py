"""`abench new task NAME` generates a starter task and its test."""

import keyword
import re
from importlib import resources
from pathlib import Path

import click

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_IMPORTED = ("Any", "Context", "LanguageModel", "Metric", "Scores", "Task", "TokenRows")
"""Names that the template imports; a class with one of these names would hide the import."""


@click.group()
def new() -> None:
    """Generate starter code."""


@new.command()
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("my_tasks"),
    show_default=True,
    help="Folder to write to; created if needed.",
)
def task(name: str, folder: Path) -> None:
    """Write NAME.py, a task that is ready to run, and test_NAME.py.

    Try it with `abench run --tasks-dir my_tasks --tasks NAME`.
    """
    from abench.errors import UserError, short

    class_name = "".join(part.capitalize() for part in name.split("_"))
    taken = keyword.iskeyword(name) or keyword.iskeyword(class_name) or class_name in _IMPORTED
    if taken or not _NAME.fullmatch(name):
        raise UserError(
            f"{short(name)} cannot be the name of a task: use up to 60 lower-case letters, digits and "
            "underscores, beginning with a letter, and no word that Python or the template uses"
        )
    files = {folder / f"{name}.py": "task.py.txt", folder / f"test_{name}.py": "test_task.py.txt"}
    for file in files:
        if file.exists():
            raise UserError(f"{file} exists already; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for file, template in files.items():
        text = resources.files("abench.cli").joinpath("templates", template).read_text(encoding="utf-8")
        file.write_text(text.replace("TASK_NAME", name).replace("TaskClass", class_name), encoding="utf-8")
        click.echo(f"wrote {file}")
    click.echo(f"try it: abench run --tasks-dir {folder} --tasks {name}\ntest it: pytest {folder}")
