"""The effect of zero-ablating latents on linear probes of a text's mean activation, without re-encoding.

Decoding is linear, so ablating the latents S subtracts f̄[:, S] · D[S] from a text's mean activation x̄, and a
probe's logit becomes x̄·w + b − f̄[:, S] · (D[S]·w). The codes f are in units of the residual stream, and the
rows of D have norm 1. One pass over the texts gives x̄ and f̄ for all SAEs; the rest are products of [texts,
ablated latents] with [ablated latents, probes].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from abench import Context, Cost, CostSetting, InputFile, Metric, Skip, Task, View, Work

from .data_sets import DataSets
from .label_options import LabelledData
from .labelled_files import file_of
from .linear_probes import ProbeQuestion, Probes, ProbeSettings, train_probes
from .priced import LONG_TEXTS, is_tiny, limited_texts, text_tokens
from .revisions import HubData

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SAE, LanguageModel, OfEach, PoleCodes

NUMBERS = (2, 5, 10, 20, 50, 100, 500)
"""Numbers of latents to ablate; fewer are ablated where fewer have an effect."""

HEADLINE = 20
"""The number of ablated latents whose score stands in the summary and in the paper's table."""

_TEXTS_AT_ONCE = 4096
_TEXTS_CHECKED = 64
_LARGEST_DEVIATION = 1e-2
"""Largest relative deviation of a reconstruction from linearity; rounding in bfloat16 stays below it."""


class ProbeAblation(HubData, LabelledData, ProbeSettings, Task):
    """A task that ablates latents and observes linear probes."""

    views: ClassVar[tuple[View, ...]] = ("native", "split")

    datasets: Annotated[DataSets, InputFile(file_of)] = None
    """Labelled data sets, also files with the columns text and label (for scr: and attribute); null uses
    sae-bench's, or the two of the tiny world; `available` those of them that can be read and have enough
    texts."""

    def texts_of(self, share: float, setting: CostSetting) -> int:
        """Texts for training and testing, of which a probe's sizes are one over `share`."""
        sizes = self.sizes(tiny=is_tiny(setting)).values()
        return sum(int(limited_texts(size, setting) * share) for size in sizes)

    def priced(self, texts: Sequence[int], groups: int, setting: CostSetting) -> Cost:
        """The cost of reading these numbers of texts once, and of training `groups` of probes together."""
        tokens = sum(texts) * text_tokens(setting, self.context)
        train = limited_texts(self.sizes(tiny=is_tiny(setting))["train"], setting)
        steps = groups * self.probe_epochs * -(-train // self.probe_batch_size)
        return Cost(
            setting.read(tokens) + Work(steps=steps),
            Work(encoded=tokens),
            assumes="" if is_tiny(setting) else LONG_TEXTS,
        )


def metric(
    name: str, number: int, description: str, *, items: str, higher: bool = True, title: str = ""
) -> Metric:
    """A metric with `number` latents ablated; those with a title are the headline at HEADLINE latents."""
    shown = bool(title) and number == HEADLINE
    return Metric(
        name,
        higher,
        title=f"{title}@{number}" if title else "",
        headline=shown,
        paper="score" if shown else None,
        description=description,
        items=items,
    )


@dataclass(frozen=True)
class Contrasts:
    """Mean code of the positive minus that of the negative texts, per pole, [probes, latents]."""

    positive: Tensor
    """Of relu(z), float64."""
    negative: Tensor
    """Of relu(−z), float64."""

    @classmethod
    def none(cls, probes: int, latents: int) -> Contrasts:
        import torch

        zeros = torch.zeros(probes, latents, dtype=torch.float64)
        return cls(zeros, zeros)

    def plus(self, codes: PoleCodes, weights: Tensor) -> Contrasts:
        """The contrasts with more texts added; weights [probes, texts] are from `ProbeQuestion.contrast`."""
        import torch

        w = weights.T.numpy()
        positive = self.positive + torch.from_numpy(codes.positive.T @ w).T
        if codes.negative is None:
            return Contrasts(positive, self.negative)
        return Contrasts(positive, self.negative + torch.from_numpy(codes.negative.T @ w).T)


@dataclass(frozen=True)
class PooledLatents:
    """What is stored of one SAE's pooled codes of a data set."""

    contrasts: Contrasts
    """Contrasts of the training texts."""
    test: PoleCodes

    def split(self) -> PooledLatents:
        """The same for the SAE in the split view."""
        import torch

        both = torch.cat([self.contrasts.positive, self.contrasts.negative], dim=1)
        return PooledLatents(Contrasts(both, torch.zeros_like(both)), self.test.split())


@dataclass(frozen=True)
class Probed:
    """A data set's probes, the texts that test them, and the pooled codes of every SAE."""

    probes: Probes
    test: tuple[ProbeQuestion, ...]
    """The test question of each probe; its rows are rows of the test texts."""
    test_x: Tensor
    """Mean residual stream of the test texts, [texts, d_model]."""
    uses: OfEach[PooledLatents]

    @property
    def clean(self) -> Tensor:
        """Logits of all probes on the test texts, [texts, probes]."""
        return self.probes.logits(self.test_x)

    def use(self, sae: SAE) -> PooledLatents:
        """The pooled latents of an SAE, in its view; raises the SAE's own error if it failed.

        Raises Skip if its reconstruction is not linear in its codes.
        """
        use = self.uses(sae)
        check_linear(sae, self.test_x[:_TEXTS_CHECKED])
        return use

    def directions(self, sae: SAE) -> Tensor:
        """The change of each probe's logit per unit of each latent's code, [probes, latents], float64."""
        from abench import latent_directions

        decoder = latent_directions(sae).detach().float()
        moves: Tensor = self.probes.weight.to(decoder.device) @ decoder.T
        return moves.double().cpu()

    def ablated(
        self, use: PooledLatents, directions: Tensor, latents: Tensor
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield each n of NUMBERS with the logits [texts, probes] after zero-ablating the first n latents.

        The whole latent is ablated, including both poles of a signed one.
        """
        clean, codes, moves = self.clean, use.test.columns(latents.numpy()).double(), directions[:, latents].T
        for number in NUMBERS:
            yield number, clean - codes[:, :number] @ moves[:number]


def probed(
    lm: LanguageModel,
    ctx: Context,
    train: tuple[Sequence[str], Sequence[ProbeQuestion]],
    test: tuple[Sequence[str], Sequence[ProbeQuestion]],
    settings: ProbeSettings,
    seeds: Sequence[int],
    title: str = "probes",
) -> Probed:
    """Train and test one probe per question, from one pass over the texts shared by all of ctx.saes.

    `train` and `test` are texts with the questions about their rows; `seeds` has one seed per question.
    `title` is what progress is shown under.
    """
    pooling = _Pooling(lm, ctx, settings.context)
    with ctx.steps(f"{title}: reading", len(train[0]) + len(test[0]), "texts") as steps:
        train_x, contrasts = pooling.contrasts(*train, steps.advance_to)
        tested, test_x = pooling.codes(test[0], lambda done: steps.advance_to(len(train[0]) + done))
    with ctx.steps(f"{title}: training probes", settings.probe_epochs, "epochs") as steps:
        probes = train_probes(train_x, train[1], test_x, test[1], settings, seeds, steps.advance_to)
    for sae, codes in tested.items():
        pooling.uses.keep(sae, PooledLatents(contrasts[sae], codes))
    return Probed(probes, tuple(test[1]), test_x, pooling.uses)


class _Pooling:
    """Encodes texts with the SAEs of a context; an SAE that fails is dropped, and its error is stored."""

    def __init__(self, lm: LanguageModel, ctx: Context, context: int) -> None:
        from abench import OfEach, base_of

        self._lm, self._ctx, self._context = lm, ctx, context
        self._saes = tuple(dict.fromkeys(base_of(sae) for sae in ctx.saes))
        self.uses: OfEach[PooledLatents] = OfEach()
        """Errors of the SAEs that failed; results are added once they are complete."""

    def contrasts(
        self, texts: Sequence[str], questions: Sequence[ProbeQuestion], done: Callable[[int], None]
    ) -> tuple[Tensor, dict[Any, Contrasts]]:
        """Mean residual streams [texts, d_model], and each SAE's contrasts for the questions.

        Only the codes of one chunk of texts are in memory at a time.
        """
        import torch

        weights = torch.stack([question.contrast(len(texts)) for question in questions])
        parts: list[Tensor] = []
        found: dict[Any, Contrasts] = {}
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            each, x = self.codes(texts[part], lambda more: done(start + more))  # noqa: B023
            parts.append(x)
            for sae, codes in each.items():
                before = found.get(sae) or Contrasts.none(len(questions), codes.latents)
                found[sae] = before.plus(codes, weights[:, part])
        return torch.cat(parts), found

    def codes(self, texts: Sequence[str], done: Callable[[int], None]) -> tuple[dict[Any, PoleCodes], Tensor]:
        """The codes of each SAE that has not failed, and the mean residual streams [texts, d_model]."""
        from abench import pool

        ours = tuple(sae for sae in self._saes if not self.uses.failed(sae))
        pooled = pool(self._lm, texts, site=self._ctx.site, saes=ours, context=self._context, done=done)
        found: dict[Any, PoleCodes] = {}
        for sae in ours:
            self.uses.attempt(sae, lambda each: found.update({each: pooled.codes(each)}))
        return found, pooled.residual


def strongest(effects: Tensor) -> Tensor:
    """The latents with the largest effects [latents], strongest first; only effects above 0 count.

    If too few latents have a positive effect, sae-bench also ablates latents of effect 0, those that
    `torch.topk` happens to return, so that there the order of latents affects the score.
    """
    import torch

    order = torch.argsort(effects, descending=True, stable=True)[: NUMBERS[-1]]
    return order[effects[order] > 0]


def check_linear(sae: SAE, x: Tensor) -> None:
    """Raise Skip unless each latent adds its code × direction to the reconstruction.

    This is checked on activations x [n, d_model], by leaving out every second latent.
    """
    import torch

    from abench import in_residual_units, latent_directions

    x = x.to(sae.W_dec.device, sae.dtype)
    codes = sae.encode(x)
    whole = sae.decode(codes)
    # Encoded again because sae-lens discards a token's statistics when it decodes.
    part = sae.decode(sae.encode(x) * (torch.arange(codes.shape[-1], device=x.device) % 2))
    left_out = in_residual_units(sae, x, codes)[:, ::2] @ latent_directions(sae)[::2]
    deviation = (whole - part - left_out).float().norm()
    if deviation > _LARGEST_DEVIATION * (whole.float().norm() + left_out.float().norm()):
        raise Skip("its reconstruction is not linear in its codes, so ablating latents cannot be computed")
