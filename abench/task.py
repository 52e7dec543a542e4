"""What an evaluation is: a task with declared metrics, prepared once a site, scored for each SAE."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict

from abench.amounts import Amount
from abench.config import DataSpec, EvaluationSpec
from abench.kept import Kept, MemoryKept
from abench.spec import Spec

View = Literal["native", "split"]
"""How a signed SAE is read: `native`, a latent is one unit with two poles; `split`, each (latent, sign) is
a unit. For a non-negative SAE the two coincide."""

ModelKind = Literal["language", "synthetic"]
"""`language`: reads texts and predicts. `synthetic`: activations made of known features, nothing else."""

Scores = Mapping[str, float]

Made = TypeVar("Made")

Details = Mapping[str, Any]
"""What a figure needs beside the scores, as plain JSON; kept in the cell and small (some kilobytes)."""


@dataclass(frozen=True)
class Metric:
    """One number a task reports."""

    name: str
    higher_is_better: bool | None
    """None where neither direction is better, as for L0."""
    title: str = ""
    """How tables head it; the name if empty."""
    headline: bool = False
    """Whether it stands in the summary table."""
    description: str = ""
    paper: Literal["score", "1 - score"] | None = None
    """How it stands in the paper's table of tasks: as it is, or as 1 − score; None if it does not. Only the
    first of a task's metrics that says so stands there."""


def _silent(_message: str) -> None:
    """The progress of a task nobody watches."""


def _unrecorded(_amount: Amount) -> None:
    """The amounts of a task whose results nobody keeps."""


@dataclass(frozen=True)
class Context:
    """What a task is given beside the model and the SAE."""

    site: str
    evaluation: EvaluationSpec
    data: DataSpec
    context_size: int
    view: View = "native"
    device: str = "cpu"
    saes: tuple[Any, ...] = ()
    """The SAEs (sae_lens.SAE) of this model and site that are about to be scored, so that `prepare` can have
    all of them encode what the model's one pass gives; see `abench.pool` and `abench.firing_rates`."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """What identifies the model: the weights' commit, dtype, context. For the specs of values in `kept`."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the local files that the task's options name, by option (see `abench.InputFile`). For the
    specs of values in `kept` that depend on such a file."""
    kept: Kept = field(default_factory=MemoryKept, compare=False)
    """Where a task keeps what costs much and is of use beyond one cell: what the model does without any SAE,
    the answers of a judge. A value's spec has to name everything that can change it."""
    say: Callable[[str], None] = field(default=_silent, compare=False)
    """Tells the user how far the task is; one short line."""
    used: Callable[[Amount], None] = field(default=_unrecorded, compare=False)
    """Records how much data the task used, of how much was requested: call it in `prepare` (for all SAEs) or
    in `score` (for one), once for each kind of data. Amounts of the same name add up. They are kept in the
    cell, and what is less than requested is a note under the tables."""
    memory: dict[Any, Any] | None = field(default=None, compare=False, repr=False)
    """What `once` remembers, from `skip` to the last `score` of a task at a site; None remembers nothing."""

    def once(self, name: Any, make: Callable[[], Made]) -> Made:
        """What `make` returns; it is called only once for each (hashable) `name`.

        For data that `skip` reads to see whether there is enough, and that `prepare` needs again.
        """
        if self.memory is None:
            return make()
        if name not in self.memory:
            self.memory[name] = make()
        made: Made = self.memory[name]
        return made


class Task(Spec, ABC):
    """An evaluation. Its fields are its options; declare them with types and defaults.

    A subclass sets `name`, `version` and `metrics`, and implements `score`. Change `version` whenever the
    numbers change: it is part of the key under which results are kept. `seed`s come from
    `ctx.evaluation.seed`; the global random state is not to be touched.
    """

    # An option's value can be a key in the wrong place.
    model_config = ConfigDict(hide_input_in_errors=True)

    name: ClassVar[str]
    version: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    views: ClassVar[tuple[View, ...]] = ("native",)
    """Views in which a signed SAE gets scores that differ. In the split view `score` is handed the SAE as a
    non-negative one of twice the width, so nothing has to be written twice."""
    kinds: ClassVar[tuple[ModelKind, ...]] = ("language",)
    """The kinds of model the task can run on."""
    in_all: ClassVar[bool] = True
    """Whether `--tasks all` names it; not one that needs more than model, SAEs and data, such as a judge."""
    check_options: ClassVar[Mapping[str, Any]] = {}
    """Options that `abench list tasks --check` takes instead of the defaults, where these would take minutes
    on a small model. They change how much is computed, not what."""

    in_stream_units: ClassVar[frozenset[str]] = frozenset()
    """Metrics that follow the size of the residual stream, because they are in its units or because a recipe
    fixes a learning rate, a penalty or a clamp in its units. All other scores must stay when the residual
    stream and the SAE are scaled together."""

    def skip(self, lm: Any, ctx: Context) -> str | None:
        """The reason why this task cannot run on this model and data, as one sentence; None if it can.

        Called before any SAE is trained. It reads the task's data (with `ctx.once`, so that `prepare` need
        not read them again) and says if there are too few for a score to mean something; raising Skip does
        the same. An exception, such as a UserError for a file that cannot be read, makes the cells fail
        before anything is trained for them. The model may be run, too, if `prepare` gets the result from
        `ctx.once`. A model of another kind than `kinds` names need not be looked for.
        """
        del lm, ctx
        return None

    def prepare(self, lm: Any, ctx: Context) -> Any:
        """What does not depend on the SAE, made once for all SAEs of a model and site."""
        del lm, ctx
        return None

    @abstractmethod
    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Context) -> Scores | tuple[Scores, Details]:
        """The declared metrics of one SAE (a sae_lens.SAE, or an abench.SplitSAE in the split view).

        With them, as a pair, may come details for a figure of the task's own.
        """


def wrong_kind(task: type[Task] | Task, kind: ModelKind) -> str | None:
    """Why a task cannot run on this kind of model, as one sentence; None if it can."""
    if kind in task.kinds:
        return None
    if kind == "synthetic":
        return "it needs a language model: synthetic activations come without text and predictions"
    return "it needs a synthetic model: the true features of a language model are not known"


def reason_to_skip(task: Task, lm: Any, ctx: Context) -> str | None:
    """What `task.skip` returns, or the message of the Skip that it raises; without gradients."""
    import torch  # here, since commands that list tasks need none

    try:
        with torch.no_grad():
            return task.skip(lm, ctx)
    except Skip as skip:
        return str(skip)


class Skip(Exception):  # noqa: N818 - not an error: what a task finds out only while it works
    """Raised where a score would mean nothing for this model and data, or for one SAE alone.

    The message is the reason, one sentence. What does not take the model belongs in `Task.skip`, where it is
    found before SAEs are trained.
    """


class ScoreError(Exception):
    """A task gave other scores than it declared, or details that are not JSON; the message names them."""


def parted(task: type[Task] | Task, result: Any) -> tuple[Scores, dict[str, Any]]:
    """Scores and details of what `score` returned; ScoreError if it is something else than was agreed."""
    scores, details = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    if not isinstance(scores, Mapping) or not isinstance(details, Mapping):
        raise ScoreError(
            f"task {task.name} must return a mapping of scores, or a pair of scores and details, not "
            f"{type(result).__name__}"
        )
    try:
        kept: dict[str, Any] = json.loads(json.dumps(dict(details), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ScoreError(f"task {task.name} gave details that are not plain JSON: {error}") from error
    return scores, kept


def checked(task: type[Task] | Task, scores: Scores) -> dict[str, float]:
    """The scores in declared order; ScoreError for one that is missing, undeclared or no finite number."""
    declared = [metric.name for metric in task.metrics]
    undeclared = sorted(map(str, set(scores) - set(declared)))
    missing = [name for name in declared if name not in scores]
    if undeclared:
        raise ScoreError(f"task {task.name} gave scores it does not declare: {', '.join(undeclared)}")
    if missing:
        raise ScoreError(f"task {task.name} gave no score for {', '.join(missing)}")
    values = {name: _number(task, name, scores[name]) for name in declared}
    bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise ScoreError(f"task {task.name} gave scores that are not finite: {', '.join(bad)}")
    return values


def _number(task: type[Task] | Task, name: str, score: Any) -> float:
    """A score as a float: a number of Python's or numpy's, or a tensor of one element without axes."""
    is_scalar = hasattr(score, "item") and tuple(getattr(score, "shape", (0,))) == ()
    value = score.item() if is_scalar else score
    # True would pass for 1, and text for the number it spells.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScoreError(
            f"task {task.name} gave {name} as {type(score).__name__}, not as a number: {score!r:.80}"
        )
    try:
        return float(value)
    except OverflowError as error:
        raise ScoreError(f"task {task.name} gave {name} as a number too large for a float") from error
