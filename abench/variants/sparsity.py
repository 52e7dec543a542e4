"""Adapting the weight of a sparsity penalty during training until L0 reaches its target."""

from collections.abc import Mapping
from math import exp, log

from abench.variants.base import Penalised, SAEShape, Variant


class L0Controller:
    """Adapts the coefficient of a sparsity penalty so that a batch's mean L0 reaches a target.

    Variants are only comparable at equal L0, and a fixed coefficient gives different L0 on different models.
    With e = clip(log(L0 / target), ±1) and L0 a running mean:

        log c ← log c + clip(integral_gain · e, ±max_growth)
        coefficient = c · exp(proportional_gain · e)

    The integral term finds the coefficient, and the proportional term damps it, because L0 follows the
    coefficient only after the weights have moved. Growth is limited as in a warm-up, so that latents learn
    their directions before the penalty takes effect; reaching the target therefore takes about 500 steps. The
    state consists of plain floats, so a restored run continues bit for bit.
    """

    def __init__(
        self,
        penalty: str,
        target: float,
        coefficient: float,
        *,
        integral_gain: float = 0.04,
        # Where L0 depends steeply on the coefficient (ReLU with k below the data's L0), a gain of 1 made L0
        # swing between 4 and 14 at k = 8; 0.25 kept it between 7 and 9, with 5 % less squared error.
        proportional_gain: float = 0.25,
        max_growth: float = 0.01,
        memory: float = 0.9,
    ) -> None:
        """Control sae-lens's loss coefficient named `penalty`, starting at `coefficient`.

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
        """The controller for training a variant; None if the operator enforces k.

        It targets an L0 of k, or holds the variant's option `coefficient` constant if that is given.
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
        """The penalty's weight in the next step."""
        return self._base * exp(self._log_factor + self._proportional_gain * self._error())

    def coefficients(self) -> dict[str, float]:
        """The coefficient by its name, in the form of sae-lens's TrainStepInput."""
        return {self._penalty: self.coefficient}

    def update(self, l0: float) -> float:
        """Update with a batch's mean number of active latents per token; returns the next coefficient."""
        self._l0 = l0 if self._l0 is None else self._memory * self._l0 + (1 - self._memory) * l0
        growth = self._integral_gain * self._error()
        self._log_factor += min(self._max_growth, max(-self._max_growth, growth))
        return self.coefficient

    def state_dict(self) -> dict[str, float | None]:
        """The state that `load_state_dict` needs to continue exactly; plain JSON."""
        return {"base": self._base, "log_factor": self._log_factor, "l0": self._l0}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Continue from a state; target and gains remain those of the constructor. Raises ValueError."""
        base, log_factor = state["base"], state["log_factor"]
        if base is None or log_factor is None:
            raise ValueError(f"not a controller's state: {dict(state)}")
        self._base, self._log_factor, self._l0 = base, log_factor, state["l0"]

    def _error(self) -> float:
        if self._l0 is None:
            return 0.0
        ratio = max(self._l0 / self._target, 1e-6)  # a batch without active latents has no logarithm
        return min(1.0, max(-1.0, log(ratio)))
