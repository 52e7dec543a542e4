"""The controls of each kind of document: properties that a caller may fix."""

from collections.abc import Mapping

from abench.errors import UserError, did_you_mean
from abench.tinyworld.axes import AXES
from abench.tinyworld.facts import SUBJECTS

CONTROLS: Mapping[str, frozenset[str]] = {
    "biography": frozenset({"profession", "gender", "correlation", "tense"}),
    "review": frozenset({"category", "sentiment", "correlation"}),
    "scene": frozenset({"about", *AXES}),
    "message": frozenset({"formality"}),
    "city": frozenset({"entity"}),
    "person": frozenset({"entity"}),
    "spelling": frozenset(),
    "lesson": frozenset({"subject"}),
    "quiz": frozenset({"subject"}),
    "request": frozenset({"harmful"}),
}
"""Kind -> the names of its controls."""

_OPTIONS: Mapping[str, tuple[str, ...]] = {"about": tuple(AXES), "subject": SUBJECTS, **AXES}


def check_controls(kind: str, controls: Mapping[str, object]) -> None:
    """Raise UserError for an unknown control of the kind, or an unknown value; None leaves a control free."""
    known = CONTROLS[kind]
    for name, value in controls.items():
        if name not in known:
            raise UserError(f"a {kind} has no control '{name}'{did_you_mean(name, known)}")
        options = _OPTIONS.get(name)
        if options and value is not None and value not in options:
            raise UserError(f"there is no {name} '{value}'{did_you_mean(str(value), options)}")
