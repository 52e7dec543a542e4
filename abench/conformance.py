"""What every task has to keep to, tried on the task itself: `abench list tasks --check`.

A task is run on small trained SAEs on the bundled model (or on a synthetic one) and its scores are compared
with those of the same functions written otherwise: latents flipped in sign, latents in another order, and,
for the split view, the wide SAE [D, −D] spelled out.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from abench.activations import ActivationSource, ActivationStream
from abench.catalogue import find_model, weights_folder
from abench.config import DataSpec, EvaluationSpec, TrainingSpec
from abench.declaration import declaration_problems
from abench.library import train
from abench.models import LanguageModel
from abench.plugins import FoundTask
from abench.task import Context, Skip, Task, View, checked, parted
from abench.views import in_view

TOLERANCE = 1e-6
"""Largest difference of scores that counts as none, as a share of scores above 1."""
_WIDTH, _K, _STEPS = 192, 8, 150
_SMALL, _LARGE = 48, 800
"""Limits on data sets: what most tasks can work with, and what all can."""

Scored = Mapping[str, float]


@dataclass(frozen=True)
class Finding:
    """One rule tried on one task."""

    rule: str
    problem: str | None
    """What is wrong, as one sentence; None if nothing is."""


@dataclass(frozen=True)
class Verdict:
    """What became of a task's check."""

    task: str
    findings: tuple[Finding, ...]
    not_checked: str | None = None
    """Why the task's scores could not be tried, as it says itself (a skip)."""

    @property
    def problems(self) -> list[str]:
        return [f"{each.rule}: {each.problem}" for each in self.findings if each.problem]


class Bench:
    """A model with small trained SAEs to try tasks on. Made once, it serves any number of tasks."""

    def __init__(self, kind: str = "language", *, layer: int | None = None, limit: int = _SMALL) -> None:
        name, self._config = find_model("tiny" if kind == "language" else "synthetic")
        self.lm: LanguageModel | ActivationSource = self._open(name)
        layer = self._config.layers[0] if layer is None else layer
        self.site = f"blocks.{layer}.hook_resid_post" if kind == "language" else "activations"
        self._evaluation = EvaluationSpec(tokens=4096, batch_size=16, limit=limit)

    def _open(self, name: str) -> LanguageModel | ActivationSource:
        if self._config.synthetic is not None:
            from abench.synthetic import SyntheticModel

            return SyntheticModel(self._config.synthetic, self._config.d_model, name=name, device="cpu")
        folder, eos = weights_folder(self._config), self._config.eos_after_documents
        return LanguageModel.load(folder, name=name, eos_after_documents=eos)

    def with_limit(self, limit: int) -> "Bench":
        """The same model and SAEs with another limit on every data set."""
        other = copy(self)
        other.__dict__["saes"] = self.saes
        other._evaluation = self._evaluation.model_copy(update={"limit": limit})
        return other

    @cached_property
    def saes(self) -> dict[str, Any]:
        """A signed SAE and a non-negative one, trained for some steps on the model's activations."""
        return {each.variant: each.sae for each in self._trained()}

    def _trained(self) -> Iterator[Any]:
        spec = TrainingSpec(tokens=_STEPS * 512, batch_size=512, buffer_tokens=8192, normalisation="none")
        stream = ActivationStream(self.lm, self.site, self.data, spec, context=self._config.context)
        batches = islice(stream.batches(), _STEPS)
        sizes: dict[str, Any] = {"width": _WIDTH, "steps": _STEPS, "batch_size": 512, "learning_rate": 3e-3}
        yield from train(batches, variants=("abstopk", "topk"), k=(_K,), **sizes)

    @property
    def data(self) -> DataSpec:
        return self._config.data

    def context(self, saes: tuple[Any, ...], view: View = "native") -> Context:
        return Context(
            self.site, self._evaluation, self.data, self._config.context, view=view, device="cpu", saes=saes
        )

    def scores(self, task: Task, saes: Mapping[str, Any], views: Mapping[str, View]) -> dict[str, Scored]:
        """Checked scores of several SAEs from one `prepare`; `views` names the view of each."""
        ctx = self.context(tuple(saes.values()))
        with torch.no_grad():
            prepared = task.prepare(self.lm, ctx)
            return {
                name: checked(task, parted(task, self._score(task, sae, prepared, views[name], ctx))[0])
                for name, sae in saes.items()
            }

    def _score(self, task: Task, sae: Any, prepared: Any, view: View, ctx: Context) -> Any:
        return task.score(in_view(sae, view), prepared, self.lm, replace(ctx, view=view))


def check_found(found: Sequence[FoundTask], benches: dict[str, Bench] | None = None) -> Iterator[Verdict]:
    """The verdict on each task that was found, with the options it is to be checked with.

    `benches` are those to work on, by kind of model; what is missing in it is made and left there.
    """
    benches = {} if benches is None else benches
    for each in found:
        if each.task is None:
            yield Verdict(each.name, (Finding("declaration" if each.problems else "import", each.summary),))
            continue
        kind = each.task.kinds[0]
        if kind not in benches:
            benches[kind] = Bench(kind)
        yield _with_check_options(each.task, benches[kind])


def _with_check_options(task: type[Task], bench: Bench) -> Verdict:
    try:
        chosen = task(**task.check_options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"its check_options cannot be taken: {where}: {first['msg']}"
        return Verdict(task.name, (Finding("declaration", problem),))
    return check_task(chosen, bench)


def check_task(task: Task, bench: Bench) -> Verdict:
    """Try every rule on a task with its options.

    A task that skips is given more data, and then the model's first block, where nothing has been moved yet.
    """
    verdict = _checked(task, bench)
    if verdict.not_checked is not None:
        verdict = _checked(task, bench.with_limit(_LARGE))
    if verdict.not_checked is not None and "language" in task.kinds:
        first = _checked(task, Bench(layer=0))
        verdict = verdict if first.not_checked is not None else first
    return verdict


def _checked(task: Task, bench: Bench) -> Verdict:
    declared = [Finding("declaration", problem) for problem in _declaration(task)] or [
        Finding("declaration", None)
    ]
    reason = task.skip(bench.lm, bench.context(()))
    if reason is not None:
        return Verdict(task.name, tuple(declared), reason)
    try:
        return Verdict(task.name, (*declared, *_behaviour(task, bench)))
    except Skip as skipped:
        return Verdict(task.name, tuple(declared), str(skipped))
    except Exception as error:
        # Whatever a task raises is what the check is there to find.
        found = Finding("runs", f"{type(error).__name__}: {error}")
        return Verdict(task.name, (*declared, found))


def _declaration(task: Task) -> Iterator[str]:
    yield from declaration_problems(type(task))
    if task.metrics and not any(metric.headline for metric in task.metrics):
        yield "none of its metrics is a headline, so no table would show it"
    if not (type(task).__doc__ or "").strip():
        yield "it has no docstring, from which `abench list tasks` takes its summary"


def _behaviour(task: Task, bench: Bench) -> Iterator[Finding]:
    before = {name: _weights(sae) for name, sae in bench.saes.items()}
    signed, plain = bench.saes["abstopk"], bench.saes["topk"]
    saes: dict[str, Any] = {"signed": signed, "plain": plain, "flipped": flipped(signed)}
    saes |= {"permuted": permuted(signed), "plain permuted": permuted(plain)}
    views: dict[str, View] = dict.fromkeys(saes, "native")
    if "split" in task.views:
        saes |= {"split": signed, "split flipped": flipped(signed, seed=1), "wide": Wide(signed)}
        views |= {"split": "split", "split flipped": "split", "wide": "native"}
    scores = bench.scores(task, saes, views)
    yield Finding("runs", None)
    yield _same("flipping the sign of latents changes nothing", scores["signed"], scores["flipped"])
    yield _same("the order of latents changes nothing", scores["signed"], scores["permuted"])
    yield _same("the order of latents changes nothing", scores["plain"], scores["plain permuted"])
    if "split" in task.views:
        yield _same("flips change nothing in the split view", scores["split"], scores["split flipped"])
        yield _same("the split view is the wide SAE [D, −D]", scores["split"], scores["wide"])
    state = _global_random_state()  # only now: libraries that a task imports late may draw while they load
    again = bench.scores(task, {"signed": signed, "plain": plain}, views)
    yield _same("scores do not depend on the other SAEs", scores["signed"], again["signed"])
    yield _same("scores do not depend on the other SAEs", scores["plain"], again["plain"])
    moved = _global_random_state() != state
    yield Finding("own random numbers", "it draws from the global random state" if moved else None)
    changed = [name for name, weights in before.items() if weights != _weights(bench.saes[name])]
    yield Finding("SAEs stay as they are", f"it changed the weights of {changed[0]}" if changed else None)


def _same(rule: str, first: Scored, second: Scored) -> Finding:
    worst = max(first, key=lambda name: abs(first[name] - second[name]) / max(1.0, abs(first[name])))
    if abs(first[worst] - second[worst]) <= TOLERANCE * max(1.0, abs(first[worst])):
        return Finding(rule, None)
    return Finding(rule, f"{worst} is {first[worst]:.6g} and becomes {second[worst]:.6g}")


def _global_random_state() -> tuple[Any, ...]:
    numpy = np.random.get_state(legacy=False)["state"]
    return (random.getstate(), numpy["pos"], numpy["key"].tobytes(), torch.get_rng_state().numpy().tobytes())


def _weights(sae: Any) -> tuple[float, ...]:
    return tuple(float(p.detach().double().sum()) for p in (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec))


def flipped(sae: Any, seed: int = 0) -> Any:
    """The same function with the sign of about half of its latents turned in encoder and decoder."""
    sign = torch.randint(0, 2, (sae.cfg.d_sae,), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    return _rewritten(sae, lambda each, axis: each * (sign if axis == each.ndim - 1 else sign[:, None]))


def permuted(sae: Any, seed: int = 0) -> Any:
    """The same function with its latents in another order."""
    order = torch.randperm(sae.cfg.d_sae, generator=torch.Generator().manual_seed(seed))
    return _rewritten(sae, lambda each, axis: each.index_select(axis, order))


def _rewritten(sae: Any, change: Callable[[Tensor, int], Tensor]) -> Any:
    """A copy whose encoder and decoder are changed along their axis of latents."""
    other = deepcopy(sae)
    with torch.no_grad():
        for weight, axis in ((other.W_enc, 1), (other.b_enc, 0), (other.W_dec, 0)):
            weight.copy_(change(weight.clone(), axis))
    return other


class Wide:
    """The non-negative SAE [D, −D] of a signed one, spelled out: relu of both signs of each code."""

    def __init__(self, sae: Any) -> None:
        self._sae = sae
        self.W_dec = torch.cat([sae.W_dec, -sae.W_dec])
        self.W_enc = torch.cat([sae.W_enc, -sae.W_enc], dim=1)
        self.b_dec, self.device, self.dtype = sae.b_dec, sae.device, sae.dtype
        self.cfg = SimpleNamespace(d_in=sae.cfg.d_in, d_sae=2 * sae.cfg.d_sae)

    def encode(self, x: Tensor) -> Tensor:
        z = self._sae.encode(x)
        return torch.cat([torch.relu(z), torch.relu(-z)], dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        decoded: Tensor = codes @ self.W_dec + self.b_dec
        return decoded
