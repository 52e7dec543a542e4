"""The files of a checkpoint, and what can be read of it without torch."""

from abench.storage.bundle import Bundle
from abench.storage.sealed import Damaged, fields_of

TENSORS, STATE = "state.safetensors", "state.json"


def before(place: Bundle) -> Bundle:
    """The predecessor of a checkpoint, hidden next to it."""
    return place.beside("before")


def step_of(checkpoint: Bundle) -> int | None:
    """The number of training steps in the newest intact checkpoint at a place; None if there is none."""
    for place in (checkpoint, before(checkpoint)):
        try:
            (step,) = fields_of(place.read(STATE), "step")
        except (FileNotFoundError, Damaged):
            continue
        if isinstance(step, int):
            return step
    return None
