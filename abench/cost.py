"""What a task computes, in units that do not depend on the machine: the basis of a run's price.

A task states its `Work` in `Task.cost`: what it does once for all SAEs of a site, and for each SAE. Numbers
may be estimates where they depend on answers that are not known before the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from abench.config import DataSpec, EvaluationSpec


@dataclass(frozen=True)
class Work:
    """Amounts of computation; those of two works add up."""

    lower: float = 0
    """Tokens that pass through the blocks up to the site: `LanguageModel.residual`."""
    upper: float = 0
    """Tokens that pass through the blocks above the site, in a pass that resumes there or goes on."""
    logits: float = 0
    """Positions for which logits are computed."""
    backward: float = 0
    """Tokens whose gradient passes through the blocks above the site."""
    generated: float = 0
    """Tokens that are generated one after the other, with a key-value cache, by all blocks."""
    encoded: float = 0
    """Activations that one SAE encodes."""
    decoded: float = 0
    """Activations that one SAE reconstructs."""
    passes: float = 0
    """Calls of the language model; one generated token of a batch counts as a call."""
    steps: float = 0
    """Optimiser steps of small probes, and similar short calculations on the CPU."""
    requests: float = 0
    """Requests to a judge or another service."""

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: float) -> "Work":
        return Work(*(getattr(self, f.name) * times for f in fields(self)))

    __rmul__ = __mul__

    @property
    def tokens(self) -> float:
        """Tokens that enter the language model, wherever the pass begins."""
        return max(self.lower, self.upper) + self.generated


@dataclass(frozen=True)
class Cost:
    """What a task computes at one site."""

    once: Work = Work()
    """For all SAEs of the site: in `prepare`, or before."""
    per_sae: Work = Work()
    """For each SAE and view that is scored."""
    per_model: Work = Work()
    """Once for the model, whatever the number of sites: values that are cached."""
    assumes: str = ""
    """What the numbers rest on if they are not exact, as a clause: `half of the questions are known`."""


@dataclass(frozen=True)
class CostSetting:
    """What a task's cost depends on besides its own options."""

    evaluation: EvaluationSpec
    data: DataSpec
    context_size: int
    kind: Literal["language", "synthetic"] = "language"
    vocabulary: int | None = None
    """Number of tokens of the model; None if it is not known."""
    batch_tokens: int = 2048
    """Tokens per call of the model where a task pads rows into batches: more on a GPU."""
    rows_with_logits: int = 32
    """Rows of a context whose logits are computed together."""
    amounts: Mapping[str, int] = field(default_factory=dict)
    """Amounts that earlier cells of the same task and model have recorded (`Context.used`), by name."""

    def limited(self, number: int) -> int:
        """The number of items under the evaluation's limit."""
        limit = self.evaluation.limit
        return number if limit is None else min(number, limit)

    def held_out_rows(self) -> int:
        """The number of rows of `context_size` tokens that the evaluation's tokens fill."""
        return self.limited(-(-self.evaluation.tokens // self.context_size))

    def read(self, tokens: float) -> Work:
        """Reading rows of tokens up to the site, in padded batches."""
        return Work(lower=tokens, passes=-(-tokens // self.batch_tokens))


def without_zeros(work: Work) -> dict[str, Any]:
    """The amounts that are not 0, by name."""
    return {f.name: getattr(work, f.name) for f in fields(work) if getattr(work, f.name)}


def rounded(work: Work) -> Work:
    """The same with whole numbers."""
    return replace(work, **{f.name: round(getattr(work, f.name)) for f in fields(work)})
