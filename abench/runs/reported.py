"""What tasks report in addition to scores."""

from dataclasses import replace
from typing import Any

from abench.amounts import Amount
from abench.parts import Parts
from abench.task import Context


class Reported:
    """What a task reports while it prepares or scores."""

    def __init__(self) -> None:
        self.amounts: list[Amount] = []
        self.measured: list[tuple[str, Any]] = []
        self.parts: list[Parts] = []

    def to(self, context: Context) -> Context:
        """The context with which a task reports here while it prepares."""
        return replace(context, used=self.amounts.append, measured=self._measure, rests_on=self.parts.append)

    def to_score(self, context: Context) -> Context:
        """The context with which a task reports here while it scores one SAE."""
        return replace(self.to(context), rests_on=_not_of_one_sae)

    def _measure(self, name: str, value: Any) -> None:
        self.measured.append((name, value))


def _not_of_one_sae(_parts: Parts) -> None:
    raise RuntimeError("ctx.rests_on was called in score; call it in prepare, for all SAEs alike")
