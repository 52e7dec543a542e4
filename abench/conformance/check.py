"""Check the rules that every task must satisfy, by running the task: `abench list tasks --check`.

A task is run on small trained SAEs of the bundled model (or of a synthetic one), and its scores are compared
with those of equivalent SAEs (rewritten.py): latents flipped in sign, latents in another order, codes in
other units, an unknown class, a larger residual stream, and, for the split view, the explicit wide SAE
[D, −D]. SAEs with and without normalisation of each token are checked.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from abench.amounts import Amount
from abench.conformance.bench import LARGER, Bench, Scored
from abench.conformance.rewritten import Bare, InOtherUnits, Wide, flipped, permuted
from abench.declaration import declaration_problems
from abench.latents.anyones import as_sae
from abench.plugins import FoundTask
from abench.task import Skip, Task, View, reason_to_skip

TOLERANCE = 1e-6
"""Largest difference at which scores count as equal: absolute, or relative for scores above 1."""
_LARGE = 800
"""Limit on data sets that suffices for all tasks."""


@dataclass(frozen=True)
class Finding:
    """The result of checking one rule on one task."""

    rule: str
    problem: str | None
    """The violation, as one sentence; None if there is none."""


@dataclass(frozen=True)
class CheckResult:
    """The results of checking one task or variant."""

    name: str
    findings: tuple[Finding, ...]
    not_checked: str | None = None
    """Why a task's scores could not be checked: the reason of its skip; None if they were checked."""

    @property
    def problems(self) -> list[str]:
        return [f"{each.rule}: {each.problem}" for each in self.findings if each.problem]


def check_found(found: Sequence[FoundTask], benches: dict[str, Bench] | None = None) -> Iterator[CheckResult]:
    """Check each task that was found, with its `check_options`.

    `benches` are the benches to use, by kind of model; missing ones are made and added to it.
    """
    benches = {} if benches is None else benches
    for each in found:
        if each.value is None:
            yield CheckResult(
                each.name, (Finding("declaration" if each.problems else "import", each.summary),)
            )
            continue
        kind = each.value.kinds[0]
        if kind not in benches:
            benches[kind] = Bench(kind)
        yield _with_check_options(each.value, benches[kind])


def _with_check_options(task: type[Task], bench: Bench) -> CheckResult:
    try:
        chosen = task(**task.check_options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"its check_options are not valid: {where}: {first['msg']}"
        return CheckResult(task.name, (Finding("declaration", problem),))
    return check_task(chosen, bench)


def check_task(task: Task, bench: Bench) -> CheckResult:
    """Check every rule on a task with its options.

    If the task skips, it is checked again with more data, and then at the model's first block, where no
    information has moved between positions yet.
    """
    verdict = _checked(task, bench)
    if verdict.not_checked is not None:
        verdict = _checked(task, bench.with_limit(_LARGE))
    if verdict.not_checked is not None and "language" in task.kinds:
        first = _checked(task, bench.at_first_block())
        verdict = verdict if first.not_checked is not None else first
    return verdict


def _checked(task: Task, bench: Bench) -> CheckResult:
    declared = [Finding("declaration", problem) for problem in _declaration(task)] or [
        Finding("declaration", None)
    ]
    try:
        reason = reason_to_skip(task, bench.lm, bench.context(()))
        if reason is not None:
            return CheckResult(task.name, tuple(declared), reason)
        return CheckResult(task.name, (*declared, *_behaviour(task, bench)))
    except Skip as skipped:
        return CheckResult(task.name, tuple(declared), str(skipped))
    except Exception as error:
        # Any exception that a task raises is a finding of the check.
        found = Finding("runs", f"{type(error).__name__}: {error}")
        return CheckResult(task.name, (*declared, found))


def _declaration(task: Task) -> Iterator[str]:
    yield from declaration_problems(type(task))
    if task.metrics and not any(metric.headline for metric in task.metrics):
        yield "none of its metrics is a headline, so no table would show the task"
    if not (type(task).__doc__ or "").strip():
        yield "it has no docstring; `abench list tasks` shows its first line as the summary"


def _behaviour(task: Task, bench: Bench) -> Iterator[Finding]:
    before = {name: _weights(sae) for name, sae in bench.saes.items()}
    written = _written(task, bench)
    amounts: list[Amount] = []
    saes = {name: each[0] for name, each in written.items()}
    scores = bench.scores(task, saes, _views(written), used=amounts.append)
    yield Finding("runs", None)
    yield Finding("amounts", None if amounts else _NO_AMOUNTS)
    for rule, first, second in _PAIRS:
        if second in scores:
            yield _same(rule, scores[first], scores[second])
    yield _larger(task, bench, scores["signed"])
    state = _global_random_state()  # only now, because libraries that a task imports late may draw on import
    alone = {name: written[name] for name in ("signed", "plain")}
    again = bench.scores(task, {name: each[0] for name, each in alone.items()}, _views(alone))
    for name in alone:
        yield _same("scores do not depend on the other SAEs", scores[name], again[name])
    moved = _global_random_state() != state
    yield Finding("no global random numbers", "it draws from the global random state" if moved else None)
    changed = [name for name, weights in before.items() if weights != _weights(bench.saes[name])]
    yield Finding("SAEs are not modified", f"it changed the weights of {changed[0]}" if changed else None)


Written = Mapping[str, tuple[Any, View]]
"""SAEs by name, each with the view in which it is scored."""

_NO_AMOUNTS = "it does not record how much data it used: call ctx.used in prepare or in score"
_UNITS = "codes in other units change nothing"
_PAIRS = (
    ("flipping the sign of latents changes nothing", "signed", "flipped"),
    ("the order of latents changes nothing", "signed", "permuted"),
    ("the order of latents changes nothing", "plain", "plain permuted"),
    (_UNITS, "signed", "units"),
    (f"{_UNITS} (layer_norm)", "layer_norm", "layer_norm, rewritten"),
    (f"{_UNITS} (constant_norm_rescale)", "constant_norm_rescale", "constant_norm_rescale, rewritten"),
    ("flips change nothing in the split view", "split", "split flipped"),
    ("the split view is the wide SAE [D, −D]", "split", "wide"),
    ("an SAE of an unknown class has the same scores", "signed", "bare"),
    ("an SAE of an unknown class has the same scores (layer_norm)", "layer_norm", "layer_norm, bare"),
    (f"{_UNITS} (layer_norm, split view)", "split layer_norm", "split layer_norm, rewritten"),
)
"""(Rule, first SAE, second SAE): the two SAEs are the same function, so they must have the same scores."""


def _written(task: Task, bench: Bench) -> Written:
    """The SAEs on which a task is checked, each rewritten in several ways."""
    signed, plain = bench.saes["signed"], bench.saes["plain"]
    standardising, rescaling = bench.saes["layer_norm"], bench.saes["constant_norm_rescale"]
    # Also permuted and flipped, which checks these rules for SAEs that normalise at no further cost.
    rewritten = InOtherUnits(flipped(permuted(standardising)))
    saes = {
        "signed": signed,
        "plain": plain,
        "flipped": flipped(signed),
        "permuted": permuted(signed),
        "plain permuted": permuted(plain),
        "units": InOtherUnits(signed),
        "bare": as_sae(Bare(signed)),
        "layer_norm": standardising,
        "layer_norm, bare": as_sae(Bare(standardising)),
        "layer_norm, rewritten": rewritten,
        "constant_norm_rescale": rescaling,
        "constant_norm_rescale, rewritten": InOtherUnits(permuted(rescaling)),
    }
    native: dict[str, tuple[Any, View]] = {name: (sae, "native") for name, sae in saes.items()}
    if "split" not in task.views:
        return native
    return native | {
        "split": (signed, "split"),
        "split flipped": (flipped(signed, seed=1), "split"),
        "wide": (Wide(signed), "native"),
        "split layer_norm": (standardising, "split"),
        "split layer_norm, rewritten": (rewritten, "split"),
    }


def _views(written: Written) -> dict[str, View]:
    return {name: view for name, (_, view) in written.items()}


def _larger(task: Task, bench: Bench, scores: Scored) -> Finding:
    """Check that a larger residual stream changes no scores except those in `in_stream_units`."""
    rule = f"a residual stream {LARGER:g} times larger changes nothing"
    free = [name for name in scores if name not in task.in_stream_units]
    if not free:
        return Finding(rule, None)
    larger = bench.larger.scores(task, bench.larger.saes, {"signed": "native"})["signed"]
    return _same(rule, {name: scores[name] for name in free}, larger)


def _same(rule: str, first: Scored, second: Scored) -> Finding:
    worst = max(first, key=lambda name: abs(first[name] - second[name]) / max(1.0, abs(first[name])))
    if abs(first[worst] - second[worst]) <= TOLERANCE * max(1.0, abs(first[worst])):
        return Finding(rule, None)
    return Finding(rule, f"{worst} changes from {first[worst]:.6g} to {second[worst]:.6g}")


def _global_random_state() -> tuple[Any, ...]:
    numpy = np.random.get_state(legacy=False)["state"]
    return (random.getstate(), numpy["pos"], numpy["key"].tobytes(), torch.get_rng_state().numpy().tobytes())


def _weights(sae: Any) -> tuple[float, ...]:
    return tuple(float(p.detach().double().sum()) for p in (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec))
