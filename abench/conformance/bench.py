"""A small model with small trained SAEs, on which any task can be checked."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

import torch

from abench.amounts import Amount
from abench.config import DataSpec, EvaluationSpec, TrainingSpec
from abench.conformance.rewritten import for_larger_stream, larger_stream, normalising
from abench.data.activations import ActivationSource, ActivationStream
from abench.latents.views import in_view
from abench.lm.catalogue import find_model, weights_folder
from abench.lm.models import LanguageModel
from abench.sites import site_name
from abench.task import Context, Task, View, checked, parted, with_values
from abench.training.library import train

_WIDTH, _K, _STEPS = 192, 8, 150
_SMALL = 48
"""Limit on data sets that suffices for most tasks."""
LARGER = 128.0
"""Factor of the larger residual stream; a power of two, so that rounding does not change."""

Scored = Mapping[str, float]


class Bench:
    """A model with small trained SAEs for checking tasks. One instance serves any number of tasks."""

    def __init__(
        self,
        kind: str = "language",
        *,
        layer: int | None = None,
        limit: int = _SMALL,
        site: str = "resid_post",
    ) -> None:
        name, self._config = find_model("tiny" if kind == "language" else "synthetic")
        self.lm: LanguageModel | ActivationSource = self._open(name)
        self._kind, self._site = kind, site
        layer = self._config.numbered()[0] if layer is None else layer
        self.site = site_name(layer, site) if kind == "language" else "activations"
        self._evaluation = EvaluationSpec(tokens=4096, batch_size=16, limit=limit)

    def _open(self, name: str) -> LanguageModel | ActivationSource:
        if self._config.synthetic is not None:
            from abench.data.synthetic import SyntheticModel

            return SyntheticModel(self._config.synthetic, self._config.d_model, name=name, device="cpu")
        folder, eos = weights_folder(self._config), self._config.eos_after_documents
        return LanguageModel.load(folder, name=name, eos_after_documents=eos)

    def at_first_block(self) -> "Bench":
        """The same model at its first block, with SAEs trained there, and with the usual limit."""
        return Bench(self._kind, layer=0, site=self._site)

    def with_limit(self, limit: int) -> "Bench":
        """The same model and SAEs with another limit on every data set."""
        other = copy(self)
        other.__dict__ |= {"saes": self.saes, "_larger": self._larger}
        other._evaluation = self._evaluation.model_copy(update={"limit": limit})
        return other

    @cached_property
    def saes(self) -> dict[str, Any]:
        """SAEs trained for some steps on the model's activations, by name.

        Without normalisation: "signed", and "plain", which is non-negative. With normalisation of each token:
        "layer_norm", which is signed, and "constant_norm_rescale", which is non-negative.
        """
        stream = ActivationStream(self.lm, self.site, self.data, _training(), context=self._config.context)
        batches = list(islice(stream.batches(), _STEPS))
        sizes: dict[str, Any] = {"width": _WIDTH, "steps": _STEPS, "batch_size": 512, "learning_rate": 3e-3}
        trained = train(batches, variants=("abstopk", "topk"), k=(_K,), **sizes)
        signed, plain = (each.sae for each in trained)
        # The weights learnt on raw tokens roughly fit tokens that are scaled to one standard deviation.
        shrunk = 1 / float(batches[0].std(-1).mean())
        return {
            "signed": signed,
            "plain": plain,
            "layer_norm": normalising(for_larger_stream(signed, shrunk), "layer_norm"),
            "constant_norm_rescale": normalising(for_larger_stream(plain, shrunk), "constant_norm_rescale"),
        }

    @property
    def larger(self) -> "Bench":
        """The same model with a residual stream `LARGER` times as large, and the signed SAE for it."""
        other = copy(self)
        other.lm, other.__dict__["saes"] = self._larger
        return other

    @cached_property
    def _larger(self) -> tuple[LanguageModel | ActivationSource, dict[str, Any]]:
        signed = for_larger_stream(self.saes["signed"], LARGER)
        return larger_stream(self.lm, LARGER), {"signed": signed}

    @property
    def data(self) -> DataSpec:
        return self._config.data

    def context(self, saes: tuple[Any, ...], view: View = "native") -> Context:
        return Context(
            self.site, self._evaluation, self.data, self._config.context, view=view, device="cpu", saes=saes
        )

    def scores(
        self,
        task: Task,
        saes: Mapping[str, Any],
        views: Mapping[str, View],
        *,
        used: Callable[[Amount], None] = lambda _amount: None,
    ) -> dict[str, Scored]:
        """Checked scores of several SAEs from one call of `prepare`; `views` gives the view of each.

        The measured values of preconditions are among them, by name, because the same rules apply to them.
        """
        shared: list[tuple[str, Any]] = []
        ctx = replace(self.context(tuple(saes.values())), used=used, measured=_into(shared))
        with torch.no_grad():
            prepared = task.prepare(self.lm, ctx)
            of_all = tuple(shared)
            return {
                name: self._scored(task, sae, prepared, replace(ctx, view=views[name]), of_all)
                for name, sae in saes.items()
            }

    def _scored(
        self, task: Task, sae: Any, prepared: Any, ctx: Context, shared: tuple[tuple[str, Any], ...]
    ) -> Scored:
        own: list[tuple[str, Any]] = []
        ctx = replace(ctx, measured=_into(own))
        scores = checked(task, parted(task, task.score(in_view(sae, ctx.view), prepared, self.lm, ctx))[0])
        preconditions = with_values(task, (*shared, *own))
        return scores | {e["name"]: e["value"] for e in preconditions if e["value"] is not None}


def _into(found: list[tuple[str, Any]]) -> Callable[[str, float | None], None]:
    """A function for `Context.measured` that appends to a list."""
    return lambda name, value: found.append((name, value))


def _training() -> TrainingSpec:
    return TrainingSpec(tokens=_STEPS * 512, batch_size=512, buffer_tokens=8192, normalisation="none")
