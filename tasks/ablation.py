"""What zero-ablating latents does to linear probes on a text's mean activation, without encoding it again.

Decoding is linear, so ablating the latents S takes f̄[:, S] · D[S] from a text's mean activation x̄, and a
probe's logit becomes x̄·w + b − f̄[:, S] · (D[S]·w): codes f are in units of the residual stream, and the rows
of D have norm 1. One pass over the texts gives x̄ and f̄ for all SAEs; the rest are products of [texts, latents
ablated] with [latents ablated, probes].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from abench import Context, Skip

from .linear_probes import Probes, ProbeSettings, Question, train_probes

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel, PoleCodes

NUMBERS = (2, 5, 10, 20, 50, 100, 500)
"""How many latents are ablated; fewer where fewer have an effect."""

_TEXTS_AT_ONCE = 4096
_TEXTS_CHECKED = 64
_LARGEST_DEVIATION = 1e-2
"""Of a reconstruction from a linear one, relative; rounding in bfloat16 stays below."""


@dataclass(frozen=True)
class Contrasts:
    """Mean code of the positive minus that of the negative texts, each pole by itself, [probes, latents]."""

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
        """With the share of more texts added; weights [probes, texts] of `Question.contrast`."""
        import torch

        w = weights.T.numpy()
        positive = self.positive + torch.from_numpy(codes.positive.T @ w).T
        if codes.negative is None:
            return Contrasts(positive, self.negative)
        return Contrasts(positive, self.negative + torch.from_numpy(codes.negative.T @ w).T)


@dataclass(frozen=True)
class LatentUse:
    """What is kept of one SAE's codes of a data set."""

    contrasts: Contrasts
    """Over the training texts."""
    test: PoleCodes

    def split(self) -> LatentUse:
        """The same of the SAE in the split view."""
        import torch

        both = torch.cat([self.contrasts.positive, self.contrasts.negative], dim=1)
        return LatentUse(Contrasts(both, torch.zeros_like(both)), self.test.split())


@dataclass(frozen=True)
class Probed:
    """A data set's probes, the test texts they are put to, and what every SAE's codes say about them."""

    probes: Probes
    test: tuple[Question, ...]
    """What each probe is asked; rows of the test texts."""
    test_x: Tensor
    """Mean residual stream of the test texts, [texts, d_model]."""
    uses: Mapping[Any, LatentUse]
    failed: Mapping[Any, Exception]
    """The SAEs whose encoders raised."""

    @property
    def clean(self) -> Tensor:
        """Logits of all probes at the test texts, [texts, probes]."""
        return self.probes.logits(self.test_x)

    def use(self, sae: Any) -> LatentUse:
        """What is kept of an SAE, in the view it is seen in; an SAE that failed raises its own error.

        Raises Skip if its reconstruction is not its codes times its decoder rows.
        """
        from abench import SplitSAE, base_of

        base = base_of(sae)
        if base in self.failed:
            raise self.failed[base]
        check_linear(sae, self.test_x[:_TEXTS_CHECKED])
        return self.uses[base].split() if isinstance(sae, SplitSAE) else self.uses[base]

    def directions(self, sae: Any) -> Tensor:
        """How far a unit of each latent moves each probe's logit, [probes, latents], float64."""
        from abench import latent_directions

        decoder = latent_directions(sae).detach().float()
        moves: Tensor = self.probes.weight.to(decoder.device) @ decoder.T
        return moves.double().cpu()

    def ablated(self, use: LatentUse, directions: Tensor, latents: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Each of NUMBERS, and the logits [texts, probes] with so many of the first latents zero-ablated.

        The whole latent is ablated, both poles of a signed one.
        """
        clean, codes, moves = self.clean, use.test.columns(latents.numpy()).double(), directions[:, latents].T
        for number in NUMBERS:
            yield number, clean - codes[:, :number] @ moves[:number]


def probed(
    lm: LanguageModel,
    ctx: Context,
    train: tuple[Sequence[str], Sequence[Question]],
    test: tuple[Sequence[str], Sequence[Question]],
    settings: ProbeSettings,
    seeds: Sequence[int],
) -> Probed:
    """A probe trained and tested for each question, from one pass over the texts that all of ctx.saes share.

    `train` and `test`: texts, and the questions about their rows; a seed for each question's probe.
    """
    pooling = _Pooling(lm, ctx, settings.context)
    train_x, contrasts = pooling.contrasts(*train)
    tested, test_x = pooling.codes(test[0])
    probes = train_probes(train_x, train[1], test_x, test[1], settings, seeds)
    uses = {sae: LatentUse(contrasts[sae], codes) for sae, codes in tested.items()}
    return Probed(probes, tuple(test[1]), test_x, uses, pooling.failed)


class _Pooling:
    """The SAEs of a context encoding texts. One that fails is left out from then on; its error is kept."""

    def __init__(self, lm: LanguageModel, ctx: Context, context: int) -> None:
        from abench import base_of

        self._lm, self._ctx, self._context = lm, ctx, context
        self._saes = tuple(dict.fromkeys(base_of(sae) for sae in ctx.saes))
        self.failed: dict[Any, Exception] = {}

    def contrasts(
        self, texts: Sequence[str], questions: Sequence[Question]
    ) -> tuple[Tensor, dict[Any, Contrasts]]:
        """Mean residual streams [texts, d_model], and what the codes tell about the questions.

        Codes of a part of the texts are in memory at a time.
        """
        import torch

        weights = torch.stack([question.contrast(len(texts)) for question in questions])
        parts: list[Tensor] = []
        found: dict[Any, Contrasts] = {}
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            each, x = self.codes(texts[part])
            parts.append(x)
            for sae, codes in each.items():
                before = found.get(sae) or Contrasts.none(len(questions), codes.latents)
                found[sae] = before.plus(codes, weights[:, part])
        return torch.cat(parts), found

    def codes(self, texts: Sequence[str]) -> tuple[dict[Any, PoleCodes], Tensor]:
        """The codes of each SAE that has not failed, and mean residual streams [texts, d_model]."""
        from abench import pool

        ours = tuple(sae for sae in self._saes if sae not in self.failed)
        pooled = pool(self._lm, texts, replace(self._ctx, saes=ours), context=self._context)
        found = {}
        for sae in ours:
            try:
                found[sae] = pooled.codes(sae)
            except Exception as error:
                # Its cell fails with this; the other SAEs of the group go on.
                self.failed[sae] = error
        return found, pooled.residual


def strongest(effects: Tensor) -> Tensor:
    """The latents with the largest effects [latents], strongest first; only such with one above 0.

    Where fewer latents than it wants have one, sae-bench also ablates latents of effect 0: whichever
    `torch.topk` meets first, so that their order decides the score.
    """
    import torch

    order = torch.argsort(effects, descending=True, stable=True)[: NUMBERS[-1]]
    return order[effects[order] > 0]


def check_linear(sae: Any, x: Tensor) -> None:
    """Raises Skip unless latents add their code × direction to what `sae` decodes.

    Tried on activations x [n, d_model], by leaving every second latent out.
    """
    import torch

    from abench import in_residual_units, latent_directions

    x = x.to(sae.W_dec.device, sae.dtype)
    codes = sae.encode(x)
    whole = sae.decode(codes)
    # Encoded again because sae-lens forgets a token's statistics when it decodes.
    part = sae.decode(sae.encode(x) * (torch.arange(codes.shape[-1], device=x.device) % 2))
    left_out = in_residual_units(sae, x, codes)[:, ::2] @ latent_directions(sae)[::2]
    deviation = (whole - part - left_out).float().norm()
    if deviation > _LARGEST_DEVIATION * (whole.float().norm() + left_out.float().norm()):
        raise Skip("its reconstruction is not linear in its codes, so ablating latents cannot be computed")
