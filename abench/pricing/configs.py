"""What a shipped configuration gives and costs, over all runs that it stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abench.config import Member, run_description, run_groups
from abench.pricing.price import price_of
from abench.runs.plan import Plan
from abench.runs.planner import RunRequest, plan_run


@dataclass(frozen=True)
class ConfigPrice:
    """A configuration with the size of its runs."""

    name: str
    description: str
    models: tuple[str, ...]
    saes: int
    cells: int
    operations: float
    """Floating-point operations for an empty results folder, without tasks that do not state their cost."""

    def row(self) -> dict[str, Any]:
        """The entries of a row of `abench list configs`."""
        return {
            "name": self.name,
            "models": ",".join(self.models),
            "SAEs": self.saes,
            "cells": self.cells,
            "FLOPs": f"{self.operations:.1e}",
            "gives": self.description,
        }


def price_of_config(name: str, model: str | None = None) -> ConfigPrice:
    """The price of a configuration, on its own models or on another one. Raises UserError."""
    options = {"model": model}
    plans = [_plan(each, options) for group in run_groups(name, options) for each in group]
    saes = {_identity(plan, sae) for plan in plans for sae in plan.saes}
    return ConfigPrice(
        name,
        run_description(name),
        tuple(dict.fromkeys(plan.model.name for plan in plans)),
        len(saes),
        sum(len(plan.cells) for plan in plans),
        _operations(plans),
    )


def _plan(member: Member, options: dict[str, Any]) -> Plan:
    options = {} if member.own_model else options
    return plan_run(RunRequest(member.source, options), fetch=False, say=lambda _: None)


def _identity(plan: Plan, sae: Any) -> tuple[Any, ...]:
    """What tells SAEs apart whose model is not on this machine, so that they have no final key."""
    return (plan.model.name, sae.site, sae.label, repr(sae.spec()["training"]) if sae.trained else "")


def _operations(plans: Sequence[Plan]) -> float:
    return sum(part.operations for plan in plans for part in price_of(plan, None).parts)
