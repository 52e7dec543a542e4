"""Executors by name: those that come with abench and those of installed packages."""

from typing import Any

from abench.discovery import Found, Kind, chosen, find
from abench.executors.base import Executor, Placement
from abench.executors.devices import Devices
from abench.executors.on_ray import OnRay
from abench.executors.serial import Serial
from abench.names import name_problem

_OWN: tuple[type[Executor], ...] = (Serial, Devices, OnRay)


def executor_for(name: str | None, placement: Placement) -> Executor:
    """The executor of this name; None stands for `devices` if several devices are named, else `serial`.

    Raises UserError, with near names, for an unknown executor, and for a placement that it cannot use.
    """
    chosen_name = name or (Devices.name if len(placement.devices) > 1 else Serial.name)
    return chosen(EXECUTORS, chosen_name, find_executors())(placement)


def find_executors() -> dict[str, Found[type[Executor]]]:
    """All executors by name; the names of abench's own cannot be taken."""
    first = [Found(each.name, each.__module__, each) for each in _OWN]
    return find(EXECUTORS, first=first, fixed={each.name for each in _OWN})


def _problems(executor: Any) -> list[str]:
    problem = name_problem(getattr(executor, "name", None))
    return [f"its name: {problem}"] if problem else []


EXECUTORS: Kind[type[Executor]] = Kind("executor", "abench.executors", Executor, _problems)
