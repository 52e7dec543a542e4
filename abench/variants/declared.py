"""Checks of a variant's declaration, made when the variant is found."""

from collections.abc import Iterator
from typing import Any

from abench.declaration import is_printable, option_problems
from abench.names import NAME_LENGTH, name_problem

_CLASS_VARIABLES = (
    *("name", "title", "signed", "regulariser", "penalty", "version"),
    *("flippable", "estimated_gradients"),
)
_IN_KEYS = ("code",)
"""Entries of keys next to the options, whose names options cannot have."""
_LONGEST_TEXT = 300


def variant_problems(variant: type[Any]) -> list[str]:
    """All problems of a variant's declaration, one sentence each; empty if it is valid.

    Never raises, even if reading the class fails.
    """
    try:
        return list(_problems(variant))
    except Exception as error:
        # The class is third-party code: its attributes may have any value, and reading them may fail.
        return [f"its declaration cannot be read: {type(error).__name__}: {error}"]


def _problems(variant: Any) -> Iterator[str]:
    for name in _CLASS_VARIABLES:
        if name in variant.model_fields:
            yield f"{name} is an option instead of a class variable; annotate it as ClassVar"
            return
    for name in _IN_KEYS:
        if name in variant.model_fields:
            yield f"an option cannot be called '{name}', which keys contain next to the options"
    if problem := name_problem(getattr(variant, "name", None)):
        yield f"its name: {problem}"
    for name in ("title", "regulariser"):
        text = getattr(variant, name, None)
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_TEXT or not is_printable(text):
            yield f"its {name} must be one line of text, not {text!r:.80}"
    for name in ("signed", "flippable"):
        if not isinstance(value := getattr(variant, name), bool):
            yield f"{name} must be True or False, not {value!r:.80}"
    estimated = variant.estimated_gradients
    if not isinstance(estimated, tuple) or not all(isinstance(name, str) for name in estimated):
        yield f"estimated_gradients must be a tuple of names of parameters, not {estimated!r:.80}"
    if not (variant.penalty is None or isinstance(variant.penalty, str)):
        yield f"penalty must be the name of a loss coefficient or None, not {variant.penalty!r:.80}"
    version = variant.version
    if version is not None and not (
        isinstance(version, str) and 0 < len(version) <= NAME_LENGTH and is_printable(version)
    ):
        yield f'its version must be None or text such as "1", not {version!r:.80}'
    yield from option_problems(variant)
