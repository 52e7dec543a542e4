"""`abench tinyworld build|show`: the small synthetic world that comes with abench."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from abench.cli.options import SEED, json_option
from abench.cli.text import columns, echo_json

if TYPE_CHECKING:
    from abench.tinyworld import Properties

_UNTITLED = {"question_accuracy_by_subject", "cross_entropy_by_kind"}


@click.group()
def tinyworld() -> None:
    """Show texts of the bundled tiny world, or rebuild the language model trained on them."""


@tinyworld.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tinyworld-model"),
    show_default=True,
    help="Folder to write the model to, in the Hugging Face format.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the weights and texts.")
@click.option(
    "--steps", type=click.IntRange(1, 10**7), help="Training steps; fewer are faster but give a worse model."
)
@json_option
def build(out: Path, seed: int, steps: int | None, as_json: bool) -> None:
    """Train the model from its seed, evaluate it and print its properties.

    Use the result in place of the bundled model with `abench run --model FOLDER`.
    """
    from abench.progress import for_stderr
    from abench.tinyworld import Recipe
    from abench.tinyworld import build as build_model

    progress = for_stderr()
    with progress.steps("training the tiny world's model", steps or Recipe().steps) as bar:
        properties = build_model(
            out,
            seed,
            steps=steps,
            on_progress=lambda p: bar.advance_to(p.step, f"{p.loss:.3f} nats per token"),
        )
    if as_json:
        echo_json(properties.as_dict())
    else:
        _print_properties(properties)
        click.echo(f"\n{out}")


@tinyworld.command()
@click.option("--kind", help="Kind of document.  [default: all kinds]")
@click.option(
    "-n",
    "number",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    help="Number of documents of each kind.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the texts.")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="train",
    show_default=True,
    help="Split to draw from.",
)
@json_option
def show(kind: str | None, number: int, seed: int, split: str, as_json: bool) -> None:
    """Print sample texts with the concepts and poles of their words."""
    from abench.tinyworld import World

    world = World()
    documents = [
        document
        for each in ([kind] if kind else world.kinds)
        for document in world.sample(each, split, number, seed=seed)
    ]
    if as_json:
        echo_json(
            [
                {
                    "kind": d.kind,
                    "text": d.text,
                    "attributes": dict(d.attributes),
                    "words": list(d.words),
                    "concepts": [list(c) for c in d.concepts],
                }
                for d in documents
            ]
        )
        return
    for document in documents:
        attributes = ", ".join(f"{name} {value}" for name, value in document.attributes.items())
        click.echo(f"[{document.kind}] {attributes}\n{document.text}")
        labelled = [
            (word, found) for word, found in zip(document.words, document.concepts, strict=True) if found
        ]
        click.echo("  " + "  ".join(f"{word}={','.join(found)}" for word, found in labelled) + "\n")


def _print_properties(properties: "Properties") -> None:
    rows = []
    for name, value in vars(properties).items():
        if name in _UNTITLED:
            continue
        if name == "cross_entropy":
            figure = f"{value.model:.3f} against {value.generator:.3f} nats per token ({value.excess:+.1%})"
        else:
            figure = f"{value.value:.1%}"
        rows.append([name.replace("_", " "), figure, f"{value.n:,}"])
    click.echo(columns(rows, ["property", "value", "n"]))
