"""How far a pass has come, where nobody looks."""


def unseen(_done: int) -> None:
    """Discard the number of items done; the default where a function reports it."""
