"""Selection of the latents of a subject, and a model's accuracy when they are clamped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._shared.choices import answers_from
from .._shared.passes import unseen

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from abench import SAE, LanguageModel

Latents = tuple[int, ...]


def select(forget: Tensor, retain: Tensor, decoder: Tensor, *, threshold: float, number: int) -> Latents:
    """The latents that fire most often on the text to forget, among those that rarely fire on other text.

    `forget` and `retain` [latents] are shares of tokens at which a latent fires, `decoder` [latents, d_in]
    the directions. Returns up to `number` latents with a retain rate below `threshold` and a forget rate
    above 0, best first. Ties go to the lower retain rate and are then broken by direction, so that neither
    the order of latents nor their signs matter.
    """
    import numpy as np
    import torch

    seen = (retain < threshold) & (forget > 0)
    eligible = torch.nonzero(seen).flatten()
    if len(eligible) > number:
        least = forget[eligible].topk(number).values[-1]
        eligible = eligible[forget[eligible] >= least]
    if number == 0 or len(eligible) == 0:
        return ()
    mark = _mark(decoder[eligible.to(decoder.device)])
    keys = (mark, np.abs(mark), retain[eligible].numpy(), -forget[eligible].numpy())
    return tuple(eligible[torch.from_numpy(np.lexsort(keys))][:number].tolist())


def _mark(rows: Tensor) -> np.ndarray[Any, Any]:
    """A number per row [rows, d] that depends only on the row and changes its sign with it."""
    import torch

    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64)
    marks: np.ndarray[Any, Any] = (rows.detach().cpu().double() * direction).sum(1).numpy()
    return marks


@dataclass(frozen=True)
class KnownBatch:
    """A batch of known questions of similar length, computed up to the site."""

    tokens: Tensor
    """[batch, longest], padded on the right."""
    last: Tensor
    """Position of each prompt's last token, [batch]."""
    residual: Tensor
    """The residual stream at the site, [batch, longest, d_model], in the model's dtype, on the CPU."""
    answers: Tensor
    """Index of the correct choice, [batch]."""
    forget: Tensor
    """Whether a question is on the subject to forget, [batch] (bool)."""

    def clampable(self) -> Tensor:
        """Mask of the positions to clamp, [batch, longest] (bool): all but the first and the padding.

        The first token (BOS if there is one) is outside the SAEs' training distribution; sae-bench leaves it
        out too.
        """
        import torch

        position = torch.arange(self.tokens.shape[1])
        return (position > 0) & (position <= self.last[:, None])


@dataclass(frozen=True)
class Accuracy:
    """Shares of known questions that are still answered correctly."""

    forget: float
    retain: float


def accuracies(
    lm: LanguageModel,
    sae: SAE,
    site: str,
    batches: Sequence[KnownBatch],
    letters: Tensor,
    *,
    clamped: Collection[Latents],
    multipliers: Sequence[float],
    done: Callable[[int], None] = unseen,
) -> dict[tuple[Latents, float], Accuracy]:
    """The accuracy when each set of latents is clamped by each multiplier.

    The model resumes at the site, and only for questions in which a clamped latent fires; the other questions
    keep their (correct) answers. `done` receives the number of batches so far.
    """
    import torch

    from abench import latent_directions

    union = sorted({latent for latents in clamped for latent in latents})
    place = {latent: number for number, latent in enumerate(union)}
    rows = latent_directions(sae, union).detach().float()
    wrong = {(latents, m): torch.zeros(2, dtype=torch.int64) for latents in clamped for m in multipliers}
    for number, batch in enumerate(batches):
        done(number)
        firing = _Firing.of(sae, batch, union, lm.device)
        for latents in clamped:
            columns = [place[latent] for latent in latents]
            touched = firing.touched(columns)
            if len(touched) == 0:
                continue
            tokens, last, answers = batch.tokens[touched], batch.last[touched], batch.answers[touched]
            for m in multipliers:
                changed = firing.clamped(touched, columns, rows, m)
                missed = answers_from(lm, changed, tokens, last, letters, site) != answers
                of_forget = batch.forget[touched]
                wrong[latents, m] += torch.stack([(missed & of_forget).sum(), (missed & ~of_forget).sum()])
    asked = sum(torch.stack([batch.forget.sum(), (~batch.forget).sum()]) for batch in batches)
    # Divided only here, from whole numbers, so that 198 of 200 does not come out below 0.99.
    return {key: Accuracy(*((asked - missed).double() / asked).tolist()) for key, missed in wrong.items()}


@dataclass(frozen=True)
class _Firing:
    """A batch of prompts on the model's device, and the codes of some latents."""

    x: Tensor
    """[batch, longest, d_model], float32."""
    codes: Tensor
    """[batch, longest, given latents], float32, in units of the residual stream; 0 where not clamped."""

    @classmethod
    def of(cls, sae: SAE, batch: KnownBatch, latents: Sequence[int], device: torch.device) -> _Firing:
        x = batch.residual.to(device).float()
        mask = batch.clampable().to(device)
        codes = x.new_zeros(*mask.shape, len(latents))
        if latents:
            codes[mask] = _codes(sae, x[mask], latents)
        return cls(x, codes)

    def touched(self, columns: Sequence[int]) -> Tensor:
        """Indices of the prompts in which any of the latents fires, on the CPU."""
        import torch

        return torch.nonzero((self.codes[..., columns] != 0).any(-1).any(-1)).flatten().cpu()

    def clamped(self, touched: Tensor, columns: Sequence[int], rows: Tensor, multiplier: float) -> Tensor:
        """x of the touched prompts with the latents clamped; `rows` [given latents, d] are the directions."""
        codes = self.codes[touched.to(self.x.device)][..., columns]
        change = clamp(codes, multiplier) - codes
        return self.x[touched.to(self.x.device)] + change @ rows[list(columns)]


def clamp(codes: Tensor, multiplier: float) -> Tensor:
    """Set each non-zero code to size `multiplier` on the other side of zero; a multiplier of 0 ablates it."""
    import torch

    return torch.where(codes != 0, -codes.sign() * multiplier, codes)


def _codes(sae: SAE, x: Tensor, latents: Sequence[int]) -> Tensor:
    """Codes of the given latents, [tokens, given latents], float32; all latents only for blocks of tokens."""
    import torch

    from abench import residual_codes, rows_at_once

    parts = torch.split(x, rows_at_once(sae))
    return torch.cat([residual_codes(sae, part)[:, list(latents)].float() for part in parts])
