"""`abench new task NAME` and `abench new variant NAME` generate starter code and its test."""

import keyword
import re
from importlib import resources
from pathlib import Path

import click

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_IMPORTED = {
    "task": ("Any", "Context", "LanguageModel", "Metric", "Scores", "Task", "TokenRows"),
    "variant": ("Callable", "ClassVar", "Field", "Tensor", "Variant"),
}
"""Names that the templates import; a class with one of these names would hide the import."""


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

    Try it with `abench run --plugins my_tasks --tasks NAME`.
    """
    _write("task", name, folder, f"--tasks {name}")


@new.command()
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("my_variants"),
    show_default=True,
    help="Folder to write to; created if needed.",
)
def variant(name: str, folder: Path) -> None:
    """Write NAME.py, a variant that is ready to run, and test_NAME.py.

    The test compares the proximal operator with the minimum of its objective. Try the variant with `abench
    run --plugins my_variants --variants NAME,abstopk`.
    """
    from abench.errors import UserError
    from abench.variants import variant_names

    if name in variant_names():
        raise UserError(f"the name '{name}' is taken by a variant that comes with abench: choose another")
    _write("variant", name, folder, f"--variants {name},abstopk")


def _write(kind: str, name: str, folder: Path, choice: str) -> None:
    """Write the templates of a kind under a name; raises UserError if the name or a file is not possible."""
    from abench.errors import UserError, short

    class_name = "".join(part.capitalize() for part in name.split("_"))
    taken = keyword.iskeyword(name) or keyword.iskeyword(class_name) or class_name in _IMPORTED[kind]
    if taken or not _NAME.fullmatch(name):
        raise UserError(
            f"{short(name)} cannot be the name of a {kind}: use up to 60 lower-case letters, digits and "
            "underscores, beginning with a letter, and no word that Python or the template uses"
        )
    files = {folder / f"{name}.py": f"{kind}.py.txt", folder / f"test_{name}.py": f"test_{kind}.py.txt"}
    for file in files:
        if file.exists():
            raise UserError(f"{file} exists already; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    words = {f"{kind.upper()}_NAME": name, f"{kind.capitalize()}Class": class_name}
    for file, template in files.items():
        text = resources.files("abench.cli").joinpath("templates", template).read_text(encoding="utf-8")
        for word, own in words.items():
            text = text.replace(word, own)
        file.write_text(text, encoding="utf-8")
        click.echo(f"wrote {file}")
    click.echo(f"try it: abench run --plugins {folder} {choice}\ntest it: pytest {folder}")
