"""The figures of the reference runs, with what they show."""

from pathlib import PurePosixPath

from generators.borrowed import figures

CAPTIONS = {
    "results/reference/reconstruction.png": "The default run: three variants on the bundled model.",
    "results/reference/train_step.png": "Time of a training step, in comparison with other libraries.",
    "results/reference/smollm2/reconstruction.png": "Three variants on SmolLM2-135M-Instruct.",
    "results/reference/smollm2/rates/reconstruction.png": "The same with several learning rates.",
}


def page_part(_: str = "") -> str:
    """All figures with their captions; a figure without one is captioned by its path."""
    return "\n\n".join(
        f"## {_title(path)}\n\n{CAPTIONS.get(path, '')}\n\n![{_title(path)}]({path})".replace(
            "\n\n\n\n", "\n\n"
        )
        for path in figures()
    )


def _title(path: str) -> str:
    parts = PurePosixPath(path).relative_to("results/reference").with_suffix("").parts
    return ", ".join(part.replace("_", " ") for part in parts)
