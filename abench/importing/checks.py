"""Checks of an SAE's tensors against what its class expects: names, shapes, orientation, finite values."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from abench.errors import UserError, did_you_mean

Shape = tuple[int, ...]


def check_weights(
    file: Path | str,
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Shape],
    names: Mapping[str, str] | None = None,
) -> None:
    """Raise UserError unless weights have the expected names and shapes and are finite.

    `names` are the names that the file gives them, for the messages.
    """
    for name in expected:
        if name not in weights:
            raise UserError(f"{file} has no tensor '{name}'{did_you_mean(name, weights)}")
    for name in weights:
        if name not in expected:
            raise UserError(
                f"{file} has a tensor '{name}', which an SAE of its configuration's class does not have; "
                f"it has {', '.join(sorted(expected))}"
            )
    # Matrices first: their shapes say more about what is wrong.
    for name, shape in sorted(expected.items(), key=lambda each: -len(each[1])):
        _check_shape(file, _called(name, names), tuple(weights[name].shape), shape)
    for name, tensor in weights.items():
        _check_finite(file, _called(name, names), tensor)


def _check_shape(file: Path | str, name: str, shape: Shape, expected: Shape) -> None:
    if shape == expected:
        return
    if len(shape) == 2 and shape == expected[::-1]:
        raise UserError(
            f"{file}: {name} is transposed: it is {_shown(shape)} and must be {_shown(expected)}; transpose "
            "it and save it again"
        )
    raise UserError(
        f"{file}: {name} is {_shown(shape)}, but by the configuration it must be {_shown(expected)}; "
        "the weights and the configuration belong to different SAEs, or d_in or the width is wrong"
    )


def _check_finite(file: Path | str, name: str, tensor: Tensor) -> None:
    # The sum of many values is faster than a mask of the tensor's size; it is not finite if a value is not.
    if bool(torch.isfinite(tensor.sum(dtype=torch.float64))) or not tensor.is_floating_point():
        return
    wrong = int((~tensor.isfinite()).sum())
    raise UserError(
        f"{file}: {wrong:,} of {tensor.numel():,} values of {name} are NaN or infinite; such an SAE cannot "
        "be scored"
    )


def _called(name: str, names: Mapping[str, str] | None) -> str:
    theirs = (names or {}).get(name, name)
    return name if theirs == name else f"{theirs} (read as {name})"


def _shown(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"
