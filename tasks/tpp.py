"""Targeted probe perturbation: does ablating one class's latents impair only that class's probe?

SAEBench's evaluation (Karvonen et al. 2025, after Marks et al. 2024), computed from pooled codes; see
tasks/_shared/ablation.py. No score changes when a latent's sign is flipped in encoder and decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from abench import Context, Cost, CostSetting, Metric, Parts, Precondition, Scores, Skip, UserError

from ._shared.ablation import NUMBERS, Contrasts, ProbeAblation, Probed, metric, probed, strongest
from ._shared.data_sets import usable_data_sets
from ._shared.labelled import TINY_CLASSES, Labelled, is_tiny, labelled
from ._shared.labelled_files import is_file, title_of
from ._shared.labelled_hub import REPOSITORIES
from ._shared.linear_probes import ProbeQuestion, seed_of
from ._shared.priced import classes_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from abench import SAE, LanguageModel

_PARTS = {
    "total_metric": (True, "accuracy drop of the class's own probe minus the mean drop of the others"),
    "intended_diff_only": (True, "accuracy drop of the class's own probe"),
    "unintended_diff_only": (False, "mean accuracy drop of the other classes' probes"),
}


def _metrics() -> tuple[Metric, ...]:
    return tuple(
        metric(
            f"tpp_threshold_{number}_{part}",
            number,
            f"{meaning}, {number} latents ablated",
            items=f"*.drops.{number}.{part}",
            higher=higher,
            title="TPP" if part == "total_metric" else "",
        )
        for number in NUMBERS
        for part, (higher, meaning) in _PARTS.items()
    )


class TPP(ProbeAblation):
    """Does ablating the latents of one class impair that class's linear probe and no other?

    Latents are selected by (mean code on the class − mean code on others, at least 0) × (probe · decoder
    row), summed over the two poles of a signed latent.

    Chanin (arXiv:2605.18229) finds that TPP fails several reliability checks at its usual settings. Read it
    together with other tasks, and do not interpret small differences.
    """

    name: ClassVar[str] = "tpp"
    version: ClassVar[str] = "2"
    metrics: ClassVar[tuple[Metric, ...]] = _metrics()
    valid_if: ClassVar[tuple[Precondition, ...]] = (
        Precondition(
            "probe_accuracy",
            "the accuracy of the classes' probes on the residual stream, for the class where it is lowest,",
            0.6,
            "Chance is 0.5: a probe that knows nothing of its class has no accuracy to lose.",
        ),
    )
    """Each class is tested on as many of its own texts as of others. A drop in accuracy can at most be its
    distance from chance; below 0.1 it is about as small as the drops of ordinary SAEs."""
    # Probes on the residual stream use sae-bench's fixed learning rate and penalty.
    in_stream_units: ClassVar[frozenset[str]] = frozenset(
        [*(each.name for each in _metrics()), "probe_accuracy"]
    )
    repositories: ClassVar[tuple[str, ...]] = REPOSITORIES

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        self._data_sets(ctx)
        return None

    def cost(self, setting: CostSetting) -> Cost:
        tiny = setting.data.source == "tinyworld"
        default = [n for n, (_, _, c) in TINY_CLASSES.items() if len(c) > 2] if tiny else ("", "")
        chosen = self.datasets if isinstance(self.datasets, tuple) else default
        each = [count * self.texts_of(1 / 2, setting) for count in classes_of(chosen)]
        return self.priced(each, len(each), setting)

    def prepare(self, lm: LanguageModel, ctx: Context) -> Mapping[str, ProbedClasses]:
        """Probes, their clean accuracies and the pooled codes of all SAEs, keyed by data set."""
        data_sets = self._data_sets(ctx)
        ctx.rests_on(data_sets)
        prepared = {name: self._prepared(name, lm, ctx) for name in data_sets.used}
        clean = (each.accuracies(each.probed.clean) for each in prepared.values())
        ctx.measured("probe_accuracy", min(float(accuracies.min()) for accuracies in clean))
        return prepared

    def _data_sets(self, ctx: Context) -> Parts:
        return usable_data_sets(self.name, self.datasets or None, _default_datasets(ctx), self._check, ctx)

    def _check(self, name: str, ctx: Context) -> None:
        data = self._texts(name, ctx)
        if is_file(name) and len(data.train) < 3:
            raise UserError(
                f"tpp: {name} has two labels; with fewer than three, the probe of one is the other's with "
                "the sign reversed, and no latent impairs only one of them"
            )
        for texts in (data.train, data.test):
            check_classes(name, texts)

    def _texts(self, name: str, ctx: Context) -> Labelled:
        sizes = self.sizes(tiny=is_tiny(ctx))
        return labelled(name, ctx, **sizes, revisions=self.revisions, columns=self.columns)

    def _prepared(self, name: str, lm: LanguageModel, ctx: Context) -> ProbedClasses:
        data, seed, title = self._texts(name, ctx), ctx.evaluation.seed, title_of(name)
        probes = probed(
            lm,
            ctx,
            one_against_others(name, data.train, seed_of(seed, title, "train")),
            one_against_others(name, data.test, seed_of(seed, title, "test")),
            self,
            [seed_of(seed, title, each) for each in data.train],
            f"tpp: {name}",
        )
        return ProbedClasses(tuple(data.train), probes)

    def score(
        self, sae: SAE, prepared: Mapping[str, ProbedClasses], lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        each = {name: data_set.drops(sae) for name, data_set in prepared.items()}
        scores = {
            f"tpp_threshold_{number}_{part}": sum(drops[number][part] for drops in each.values()) / len(each)
            for number in NUMBERS
            for part in _PARTS
        }
        return scores, {name: prepared[name].details(drops) for name, drops in each.items()}


@dataclass(frozen=True)
class ProbedClasses:
    """A data set's classes and the probe of each."""

    classes: tuple[str, ...]
    probed: Probed

    def accuracies(self, logits: Tensor) -> Tensor:
        """Accuracy of each class's probe on its own question, [classes], from logits [texts, classes]."""
        import torch

        questions = enumerate(self.probed.test)
        return torch.tensor([q.accuracy(logits[:, i]) for i, q in questions], dtype=torch.float64)

    def drops(self, sae: SAE) -> dict[int, dict[str, float]]:
        """Mean accuracy drops over the classes, keyed by the number of ablated latents."""
        import torch

        use, directions = self.probed.use(sae), self.probed.directions(sae)
        effects = tpp_effects(use.contrasts, directions)
        clean = self.accuracies(self.probed.clean)
        drops: dict[int, list[Tensor]] = {number: [] for number in NUMBERS}
        for each in effects:
            for number, logits in self.probed.ablated(use, directions, strongest(each)):
                drops[number].append(clean - self.accuracies(logits))
        return {number: _parts(torch.stack(rows)) for number, rows in drops.items()}

    def details(self, drops: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
        clean = dict(zip(self.classes, self.accuracies(self.probed.clean).tolist(), strict=True))
        return {"clean_accuracy": clean, "drops": {str(number): dict(drops[number]) for number in drops}}


def tpp_effects(contrasts: Contrasts, directions: Tensor) -> Tensor:
    """Effects of latents on each class's probe, [classes, latents]; independent of the sign of a latent.

    For a non-negative SAE they equal sae-bench's.
    """
    return (contrasts.positive.clamp_min(0) - contrasts.negative.clamp_min(0)) * directions


def _parts(drops: Tensor) -> dict[str, float]:
    """Means of accuracy drops [ablated class, probe], separately for the diagonal and the rest."""
    classes = len(drops)
    intended = float(drops.diagonal().mean())
    unintended = float((drops.sum() - drops.diagonal().sum()) / (classes * (classes - 1)))
    return {
        "total_metric": intended - unintended,
        "intended_diff_only": intended,
        "unintended_diff_only": unintended,
    }


def one_against_others(
    name: str, texts: Mapping[str, Sequence[str]], seed: int
) -> tuple[list[str], list[ProbeQuestion]]:
    """All texts, class by class, and one question per class: which texts belong to it?

    There are as many negatives as positives, drawn evenly from the other classes. Raises Skip as
    `check_classes` does.
    """
    import torch

    size = check_classes(name, texts)
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.arange(size) + number * size for number in range(len(texts))]
    return (
        [text for each in texts.values() for text in each[:size]],
        [ProbeQuestion(own, _drawn([r for r in rows if r is not own], size, generator)) for own in rows],
    )


def check_classes(name: str, texts: Mapping[str, Sequence[str]]) -> int:
    """The number of texts that every class has.

    Raises Skip for fewer than two classes or a class without texts.
    """
    size = min((len(each) for each in texts.values()), default=0)
    if len(texts) < 2 or size == 0:
        raise Skip(f"the data set '{name}' needs texts of at least two classes; it has {_counts(texts)}")
    return size


def _drawn(others: Sequence[Tensor], size: int, generator: torch.Generator) -> Tensor:
    """`size` rows, drawn as evenly as possible from each of the other classes."""
    import torch

    share = -(-size // len(others))
    chosen = [rows[torch.randperm(len(rows), generator=generator)[:share]] for rows in others]
    together = torch.cat(chosen)
    return together[torch.randperm(len(together), generator=generator)[:size]]


def _counts(texts: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{len(each)} of '{name}'" for name, each in texts.items()) or "none"


def _default_datasets(ctx: Context) -> tuple[str, ...]:
    if is_tiny(ctx):
        return tuple(name for name, (_, _, classes) in TINY_CLASSES.items() if len(classes) > 2)
    from sae_bench.evals.scr_and_tpp.eval_config import ScrAndTppEvalConfig

    return tuple(ScrAndTppEvalConfig().dataset_names)
