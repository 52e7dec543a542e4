"""The contract of an evaluation: a task declares metrics, prepares once per site and scores each SAE."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict

from abench.amounts import Amount
from abench.config import DataSpec, EvaluationSpec
from abench.config.spec import Spec
from abench.cost import Cost, CostSetting
from abench.figures import Records, TaskFigure
from abench.kept import Kept, MemoryKept
from abench.parts import Parts
from abench.passes import pass_of
from abench.preconditions import Precondition
from abench.progress import Progress, Silent, Steps
from abench.sae import SAE
from abench.tables import TaskTable

View = Literal["native", "split"]
"""How a signed SAE is read. `native`: a latent is one unit with two poles. `split`: each (latent, sign) pair
is a unit. For a non-negative SAE the two coincide."""

ModelKind = Literal["language", "synthetic"]
"""`language`: reads text and predicts tokens. `synthetic`: only activations, made of known features."""

Scores = Mapping[str, float]
"""The scores of one SAE, by the names of the metrics that the task declares."""

Item = TypeVar("Item")
Made = TypeVar("Made")

Details = Mapping[str, Any]
"""What a figure needs in addition to the scores, as plain JSON. Stored in the cell; keep it to a few
kilobytes."""


@dataclass(frozen=True)
class Metric:
    """One number a task reports."""

    name: str
    higher_is_better: bool | None
    """None where neither direction is better, as for L0."""
    title: str = ""
    """Its heading in tables; the name if empty."""
    headline: bool = False
    """Whether it appears in the summary table."""
    description: str = ""
    paper: Literal["score", "1 - score"] | None = None
    """How it appears in the paper's table of tasks: unchanged or as 1 − score; None if it does not appear.
    If several metrics of a task set it, only the first appears."""
    items: str | None = None
    """For a mean over items: where the cell's details have the value of each item, as a path in which `*`
    stands for every name, e.g. `datasets.*.accuracy`; None if the details have no such values. Reports then
    know how far the metric depends on the choice of items."""


def _silent(_message: str) -> None:
    """Discard a progress message."""


def _unrecorded(_amount: Amount) -> None:
    """Discard an amount."""


def _unlisted(_parts: Parts) -> None:
    """Discard the parts on which a cell rests."""


def _unmeasured(_name: str, _value: float | None) -> None:
    """Discard the value of a precondition."""


@dataclass(frozen=True)
class Context:
    """What a task receives in addition to the model and the SAE."""

    site: str
    evaluation: EvaluationSpec
    data: DataSpec
    context_size: int
    view: View = "native"
    device: str = "cpu"
    saes: tuple[SAE, ...] = ()
    """The SAEs (sae_lens.SAE) of this model and site that are about to be scored, so that `prepare` can have
    all of them encode the same forward passes; see `abench.pool` and `abench.firing_rates`."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """What identifies the model (weights' commit, dtype, context), for the specs of values in `kept`."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the local files that the task's options name, by option (see `abench.InputFile`), for the
    specs of values in `kept` that depend on such a file."""
    kept: Kept = field(default_factory=MemoryKept, compare=False)
    """A cache for values that are expensive and useful beyond one cell: results of the model without any SAE,
    a judge's answers. A value's spec must name everything that can change the value."""
    say: Callable[[str], None] = field(default=_silent, compare=False)
    """Reports progress to the user, as one short line."""
    used: Callable[[Amount], None] = field(default=_unrecorded, compare=False)
    """Records how much data the task used of the amount requested. Call it in `prepare` (for all SAEs) or in
    `score` (for one), once per kind of data. Amounts of the same name add up. They are stored in the cell;
    if less was used than requested, a note below the tables says so."""
    rests_on: Callable[[Parts], None] = field(default=_unlisted, compare=False)
    """Records which parts of the data the scores rest on and which were left out. Call it in `prepare`, once
    per kind of parts. The parts are stored in the cell; if some were left out, a note below the tables names
    them, and cells that rest on different parts are neither averaged nor compared."""
    progress: Progress = field(default_factory=Silent, compare=False, repr=False)
    """Where `steps` and `track` show progress."""
    measured: Callable[[str, float | None], None] = field(default=_unmeasured, compare=False)
    """Records the value of a precondition that the task declares in `valid_if`, by name. Call it once for
    each, in `prepare` (for all SAEs) or in `score` (for one). None means that the task's options rule out the
    measurement; the scores then count as valid."""
    memory: dict[Any, Any] | None = field(default=None, compare=False, repr=False)
    """The values that `once` remembers, from `skip` to the last `score` of a task at a site; with None,
    nothing is remembered."""

    def once(self, name: Any, make: Callable[[], Made]) -> Made:
        """Return the value of `make()`, which is called only once per (hashable) `name`.

        Use it for data that `skip` reads to check whether there is enough and that `prepare` needs again.
        """
        if self.memory is None:
            return make()
        if name not in self.memory:
            self.memory[name] = make()
        made: Made = self.memory[name]
        return made

    def steps(self, title: str, total: int, unit: str = "steps") -> AbstractContextManager[Steps]:
        """The progress of a pass over `total` units, e.g. `texts`: a bar on a terminal, lines in a log.

        Call `advance_to(done)` on the value that it yields. Title, rate and time left are shown; a pass of
        less than about a second shows nothing.
        """
        return pass_of(self.progress, title, total, unit)

    def track(self, items: Sequence[Item], title: str, unit: str = "steps") -> Iterator[Item]:
        """Yield the items and show the progress of the loop over them, as `steps` does."""
        with self.steps(title, len(items), unit) as steps:
            for number, item in enumerate(items):
                steps.advance_to(number)
                yield item
            steps.advance_to(len(items))


class Task(Spec, ABC):
    """An evaluation. Its fields are its options; declare them with types and defaults.

    A subclass sets `name`, `version` and `metrics`, and implements `score`. Change `version` whenever the
    numbers change: it is part of the key under which results are stored. Take seeds from
    `ctx.evaluation.seed`, and do not touch the global random state.
    """

    # An option's value can be a secret key that was put in the wrong place.
    model_config = ConfigDict(hide_input_in_errors=True)

    name: ClassVar[str]
    version: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    valid_if: ClassVar[tuple[Precondition, ...]] = ()
    """What must be true for the scores to mean anything; its values are passed to `Context.measured`."""
    views: ClassVar[tuple[View, ...]] = ("native",)
    """The views in which the scores of a signed SAE differ. In the split view, `score` receives the SAE as a
    non-negative one of twice the width, so one implementation serves both."""
    kinds: ClassVar[tuple[ModelKind, ...]] = ("language",)
    """The kinds of model the task can run on."""
    in_all: ClassVar[bool] = True
    """Whether `--tasks all` includes it. Set it to False for a task that needs more than model, SAEs and
    data, such as a judge."""
    truth: ClassVar[str | None] = None
    """A metric that states how well an SAE finds what is known to be in the model. `abench reliability`
    checks the metrics of all tasks against it; None if the task knows no truth."""
    check_options: ClassVar[Mapping[str, Any]] = {}
    """Options that `abench list tasks --check` uses in place of defaults that would take minutes on a small
    model. They may change how much is computed, not what is computed."""

    in_stream_units: ClassVar[frozenset[str]] = frozenset()
    """Metrics that depend on the scale of the residual stream, because they are in its units or because a
    recipe fixes a learning rate, a penalty or a clamp in its units; also preconditions, by name. All other
    scores and preconditions must stay the same when the residual stream and the SAE are scaled together."""

    @classmethod
    def figures(cls) -> Sequence[TaskFigure]:
        """Figures of the task's own for reports, drawn from what `score` returns as details.

        Import what they need in here and in their functions: this module is imported to list the tasks.
        """
        return ()

    @classmethod
    def tables(cls) -> Sequence[TaskTable]:
        """Tables of the task's own for reports, made from what `score` returns as details.

        Import what they need in here, as for `figures`.
        """
        return ()

    @classmethod
    def notes(cls, records: Records) -> Sequence[str]:
        """Sentences below the tables of a report with these cells of the task, with and without a result."""
        del records
        return ()

    def skip(self, lm: Any, ctx: Context) -> str | None:
        """The reason why this task cannot run on this model and data, as one sentence; None if it can.

        It is called before any SAE is trained. It should read the task's data (with `ctx.once`, so that
        `prepare` need not read them again) and return a reason if there are too few for a meaningful score;
        raising Skip has the same effect. Any other exception, such as a UserError for a file that cannot be
        read, makes the cells fail before an SAE is trained for them. It may also run the model, provided that
        `prepare` gets the result from `ctx.once`. It is called only for the kinds of model in `kinds`.
        """
        del lm, ctx
        return None

    def prepare(self, lm: Any, ctx: Context) -> Any:
        """Compute what does not depend on the SAE, once for all SAEs of a model and site."""
        del lm, ctx
        return None

    def cost(self, setting: CostSetting) -> Cost | None:
        """What the task computes at one site, for the price of a run before it starts; None: not stated.

        It is called without the model and reads no data, so it may rest on assumptions, which it names.
        """
        del setting
        return None

    @abstractmethod
    def score(self, sae: SAE, prepared: Any, lm: Any, ctx: Context) -> Scores | tuple[Scores, Details]:
        """The declared metrics of one SAE (a sae_lens.SAE, or an abench.SplitSAE in the split view).

        May return a pair instead: the scores, and details for a figure of the task's own.
        """


def wrong_kind(task: type[Task] | Task, kind: ModelKind) -> str | None:
    """Why a task cannot run on this kind of model, as one sentence; None if it can."""
    if kind in task.kinds:
        return None
    if kind == "synthetic":
        return "it needs a language model: synthetic activations have no text or predictions"
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
    """Raised where a score would be meaningless for this model and data, or for a single SAE.

    The message is the reason, as one sentence. A check that does not need the model belongs in `Task.skip`,
    which is called before SAEs are trained.
    """


class ScoreError(Exception):
    """The scores or preconditions are not those that the task declares, or its details are not JSON."""


def parted(task: type[Task] | Task, result: Any) -> tuple[Scores, dict[str, Any]]:
    """Scores and details from the return value of `score`; raises ScoreError for any other type."""
    scores, details = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    if not isinstance(scores, Mapping) or not isinstance(details, Mapping):
        raise ScoreError(
            f"task {task.name} must return a mapping of scores, or a pair of scores and details, not "
            f"{type(result).__name__}"
        )
    try:
        kept: dict[str, Any] = json.loads(json.dumps(dict(details), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ScoreError(f"task {task.name} returned details that are not plain JSON: {error}") from error
    return scores, kept


def checked(task: type[Task] | Task, scores: Scores) -> dict[str, float]:
    """The scores in declared order; raises ScoreError if one is missing, undeclared or not finite."""
    declared = [metric.name for metric in task.metrics]
    undeclared = sorted(map(str, set(scores) - set(declared)))
    missing = [name for name in declared if name not in scores]
    if undeclared:
        raise ScoreError(f"task {task.name} returned scores it does not declare: {', '.join(undeclared)}")
    if missing:
        raise ScoreError(f"task {task.name} returned no score for {', '.join(missing)}")
    values = {name: _number(task, "returned", name, scores[name]) for name in declared}
    bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise ScoreError(f"task {task.name} returned scores that are not finite: {', '.join(bad)}")
    return values


def with_values(task: type[Task] | Task, measured: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The task's preconditions as plain JSON, each with its `value`, in declared order.

    `measured` are the arguments of the calls of `Context.measured`. Raises ScoreError if a value is missing,
    not finite or measured twice, or if its precondition is not declared.
    """
    found: dict[str, float | None] = {}
    declared = {each.name for each in task.valid_if}
    for name, value in measured:
        if name not in declared:
            raise ScoreError(
                f"task {task.name} measured a precondition that it does not declare: {name!r:.80}"
            )
        if name in found:
            raise ScoreError(f"task {task.name} measured the precondition {name} twice")
        found[name] = None if value is None else _number(task, "measured", name, value)
    if missing := [each.name for each in task.valid_if if each.name not in found]:
        raise ScoreError(f"task {task.name} did not measure its preconditions: {', '.join(missing)}")
    if bad := [
        f"{n} = {value}" for n, value in found.items() if value is not None and not math.isfinite(value)
    ]:
        raise ScoreError(f"task {task.name} measured preconditions that are not finite: {', '.join(bad)}")
    every = [metric.name for metric in task.metrics]
    return [
        asdict(each) | {"metrics": list(each.metrics) or every, "value": found[each.name]}
        for each in task.valid_if
    ]


def _number(task: type[Task] | Task, verb: str, name: str, score: Any) -> float:
    """A score as a float, from a Python or numpy number or a zero-dimensional tensor."""
    is_scalar = hasattr(score, "item") and tuple(getattr(score, "shape", (0,))) == ()
    value = score.item() if is_scalar else score
    # float() would accept True as 1 and text that spells a number.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScoreError(
            f"task {task.name} {verb} {name} as {type(score).__name__}, not as a number: {score!r:.80}"
        )
    try:
        return float(value)
    except OverflowError as error:
        raise ScoreError(f"task {task.name} {verb} {name} as a number too large for a float") from error
