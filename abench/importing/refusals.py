"""Sentences for SAEs that abench does not score, which several readers use."""

from pathlib import Path

from abench.errors import UserError


def transcoder(file: Path | str, why: str) -> UserError:
    """The error for something that reconstructs another place of the model than the one it reads."""
    return UserError(
        f"{file} is a transcoder ({why}): it predicts another place of the model instead of reconstructing "
        "what it reads, so abench's scores are not defined for it"
    )
