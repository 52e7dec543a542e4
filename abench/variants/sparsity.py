"""Adapting the weight of a sparsity penalty during training until L0 is what was asked for."""

from collections.abc import Mapping
from math import exp, log

from abench.variants.base import Penalised, SAEShape, Variant


class L0Controller:
    """Adapts the coefficient of a sparsity penalty so that a batch's mean L0 reaches a target.

    Variants can only be compared at equal L0, and no fixed coefficient gives the same L0 on two models.
    With e = clip(log(L0 / target), ±1) and L0 a running mean:

        log c ← log c + clip(integral_gain · e, ±max_growth)
        coefficient = c · exp(proportional_gain · e)

    The integral term finds the coefficient and the proportional term damps it, because L0 follows the
    coefficient only after the weights have moved. Growth is limited like a warm-up, so that latents learn
    their directions before the penalty bites; the target therefore takes some 500 steps to reach. All state
    is plain floats, so a restored run continues bit for bit.
    """

    def __init__(
        self,
        penalty: str,
        target: float,
        coefficient: float,
        *,
        integral_gain: float = 0.04,
        # Where L0 is steep in the coefficient (ReLU with k below the data's own L0) a gain of 1 made L0 swing
        # between 4 and 14 at k = 8; 0.25 kept it between 7 and 9, with 5 % less squared error.
        proportional_gain: float = 0.25,
        max_growth: float = 0.01,
        memory: float = 0.9,
    ) -> None:
        """Start at `coefficient` for sae-lens's loss coefficient named `penalty`.

        `memory` is the weight of the past in the running mean of L0.

        Raises ValueError if target or coefficient is not positive.
        """
        if target <= 0 or coefficient <= 0:
            raise ValueError(f"target and coefficient must be positive, got {target} and {coefficient}")
        self._penalty = penalty
        self._target = target
        self._integral_gain = integral_gain
        self._proportional_gain = proportional_gain
        self._max_growth = max_growth
        self._memory = memory
        self._base = coefficient
        self._log_factor = 0.0
        self._l0: float | None = None

    @classmethod
    def for_variant(cls, variant: Variant, shape: SAEShape) -> "L0Controller | None":
        """The controller a variant trains with: one that aims at k, or holds still at the option
        `coefficient`; None where the operator enforces k.
        """
        if not isinstance(variant, Penalised):
            return None
        if variant.coefficient is None:
            return cls(variant.penalty, shape.k, variant.starting_coefficient)
        controller = cls(variant.penalty, shape.k, 1.0, integral_gain=0.0, proportional_gain=0.0)
        controller._base = variant.coefficient  # may be 0: no penalty
        return controller

    @property
    def coefficient(self) -> float:
        """The weight to use in the next step."""
        return self._base * exp(self._log_factor + self._proportional_gain * self._error())

    def coefficients(self) -> dict[str, float]:
        """The coefficient under its name, as sae-lens's TrainStepInput takes it."""
        return {self._penalty: self.coefficient}

    def update(self, l0: float) -> float:
        """Take in the mean number of active latents of one batch; returns the next coefficient."""
        self._l0 = l0 if self._l0 is None else self._memory * self._l0 + (1 - self._memory) * l0
        growth = self._integral_gain * self._error()
        self._log_factor += min(self._max_growth, max(-self._max_growth, growth))
        return self.coefficient

    def state_dict(self) -> dict[str, float | None]:
        """Everything that `load_state_dict` needs to continue exactly; safe to write as JSON."""
        return {"base": self._base, "log_factor": self._log_factor, "l0": self._l0}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Continue from a state; target and gains stay those of the constructor."""
        base, log_factor = state["base"], state["log_factor"]
        if base is None or log_factor is None:
            raise ValueError(f"not a controller's state: {dict(state)}")
        self._base, self._log_factor, self._l0 = base, log_factor, state["l0"]

    def _error(self) -> float:
        if self._l0 is None:
            return 0.0
        ratio = max(self._l0 / self._target, 1e-6)  # a batch without active latents has no logarithm
        return min(1.0, max(-1.0, log(ratio)))
