"""The files of a checkpoint, and what can be read of it without torch."""

from pathlib import Path

from abench.storage.sealed import Damaged, fields_of, raw_of

TENSORS, STATE = "state.safetensors", "state.json"


def beside(folder: Path, role: str) -> Path:
    """The hidden name next to a checkpoint of its predecessor (`before`) or its draft (`tmp`)."""
    return folder.with_name(f".{folder.name}.{role}")


def step_of(folder: Path) -> int | None:
    """The number of training steps in the newest intact checkpoint at `folder`; None if there is none."""
    for place in (folder, beside(folder, "before")):
        try:
            (step,) = fields_of(raw_of(place / STATE), "step")
        except (FileNotFoundError, Damaged):
            continue
        if isinstance(step, int):
            return step
    return None
