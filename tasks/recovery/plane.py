"""True and found poles in one plane, for the figure of a world that is small enough to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .firings import LatentFirings, Truth
from .poles import Poles

if TYPE_CHECKING:
    from torch import Tensor


_PARALLEL = 1e-6
"""Relative size up to which a direction's orthogonal part counts as rounding."""


def plane_of(directions: Tensor) -> Tensor:
    """An orthonormal basis [d_model, 2] of the plane of the first two directions [features, d_model].

    If the two are parallel, they span no plane: the second vector is zero, and all poles lie on one line.
    """
    import torch

    first = directions[0] / directions[0].norm()
    rest = directions[1] - (directions[1] @ first) * first
    parallel = rest.norm() <= _PARALLEL * directions[1].norm()
    second = torch.zeros_like(rest) if parallel else rest / rest.norm()
    return torch.stack([first, second], -1)


def plane_details(truth: Truth, use: LatentFirings, pole_names: list[tuple[str, str]]) -> dict[str, Any]:
    """Coordinates of all poles, and for found poles the share of tokens at which they fire."""
    plane = plane_of(truth.directions)
    return {
        "true": [
            {"name": pole_names[row["unit"]][row["sign"] < 0], "x": row["x"], "y": row["y"]}
            for row in _rows(truth.poles, plane)
        ],
        "found": [
            {
                "latent": row["unit"],
                "sign": row["sign"],
                "x": row["x"],
                "y": row["y"],
                "share": int((use.positive if row["sign"] > 0 else use.negative)[row["unit"]]) / truth.tokens,
            }
            for row in _rows(use.poles, plane)
        ],
    }


def _rows(poles: Poles, plane: Tensor) -> list[dict[str, Any]]:
    places = (poles.direction @ plane).tolist()
    units, signs = poles.unit.tolist(), poles.sign.tolist()
    return [{"unit": u, "sign": s, "x": x, "y": y} for u, s, (x, y) in zip(units, signs, places, strict=True)]
