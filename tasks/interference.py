"""Interference between the two poles of latents: what each pole carries, and how often it only does harm.

A signed latent represents two concepts with one direction. If they are not opposites, a firing for one of
them can make the reconstruction worse. The task removes each firing by itself and looks at the error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from abench import Context, Cost, CostSetting, Metric, Scores, Skip, Task, Work

from ._shared.held_out import held_out_rows, too_little_text, usual_positions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from abench import SAE, LanguageModel

TWO_SIDED_SHARE = 0.05
"""A latent counts as two-sided by strength if each pole carries at least this share of its strength."""
_FIRINGS_AT_ONCE = 1 << 16


class Interference(Task):
    """What the weaker poles of latents carry, and how many firings make the reconstruction worse.

    The strength of a firing is its squared length in the residual stream, z²‖d‖². A latent's stronger pole is
    the sign that carries more strength on the held-out text. A firing does harm if the squared error of its
    token is smaller without it and everything else unchanged. A non-negative SAE has no weaker poles, so its
    firings show how much harm there is without two poles.
    """

    name: ClassVar[str] = "interference"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "two_sided_by_strength",
            None,
            "two-sided by strength",
            headline=True,
            description="share of alive latents whose weaker pole carries at least 5 % of their strength",
        ),
        Metric(
            "weaker_strength",
            None,
            "strength of weaker poles",
            headline=True,
            description="share of the strength of all firings that is on the weaker pole of its latent",
        ),
        Metric(
            "weaker_firings",
            None,
            "firings of weaker poles",
            description="share of all firings that are on the weaker pole of their latent",
        ),
        Metric(
            "harmful",
            False,
            "harmful firings",
            headline=True,
            description="share of all firings without which the error of their token is smaller",
        ),
        Metric(
            "harmful_weaker",
            False,
            "harmful, weaker pole",
            headline=True,
            description="share of all firings that do harm and are on the weaker pole of their latent",
        ),
        Metric(
            "harm",
            False,
            "harm",
            description="what harmful firings add to the squared error, in sum, as a share of that error",
        ),
    )

    tokens: int = Field(65_536, ge=1, le=10**9)
    """Maximum number of held-out tokens; at most the evaluation's own number."""
    outlier_norm: float | None = Field(10.0, gt=0, le=1e9)
    """Positions with a norm above this multiple of the median are left out, because by default SAEs are not
    trained on them; None keeps them."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        return too_little_text(lm, ctx)

    def cost(self, setting: CostSetting) -> Cost:
        rows = min(setting.held_out_rows(), -(-self.tokens // setting.context_size))
        tokens = rows * setting.context_size
        reading = Work(lower=tokens, passes=-(-rows // setting.evaluation.batch_size))
        return Cost(reading, Work(encoded=tokens, decoded=tokens))

    def prepare(self, lm: LanguageModel, ctx: Context) -> list[Tensor]:
        """The residual stream at ordinary positions, in batches [tokens, d_model]."""
        import torch

        rows = torch.split(held_out_rows(lm, ctx, most_tokens=self.tokens), ctx.evaluation.batch_size)
        track = ctx.track(rows, "interference: reading the held-out text", "batches")
        residuals = [lm.residual(batch, ctx.site) for batch in track]
        masks = usual_positions(rows, residuals, lm, self.outlier_norm)
        return [residual[mask].float() for residual, mask in zip(residuals, masks, strict=True)]

    def score(self, sae: SAE, prepared: list[Tensor], lm: LanguageModel, ctx: Context) -> Scores:
        sums = Sums(sae.cfg.d_sae, lm.device)
        for x in prepared:
            sums.add(sae, x)
        return sums.scores()


@dataclass(frozen=True, eq=False)
class Firings:
    """The non-zero codes of some tokens, in units of the residual stream: one entry per firing."""

    tokens: Tensor
    latents: Tensor
    codes: Tensor

    @classmethod
    def of(cls, sae: SAE, x: Tensor) -> Firings:
        """The firings of an SAE on activations [tokens, d_model]."""
        import torch

        from abench import sparse_codes

        codes = sparse_codes(sae, x).tocoo()
        codes.eliminate_zeros()
        places = (torch.from_numpy(each).long().to(x.device) for each in (codes.row, codes.col))
        return cls(*places, torch.from_numpy(codes.data).to(x.device))


def added_error(firings: Firings, residue: Tensor, directions: Tensor) -> Tensor:
    """What each firing adds to the squared error of its token, [firings]; negative where it helps.

    With the error r = x − x̂ [tokens, d] and unit directions u [latents, d], the error without a firing of
    code c is r + c·u, so the firing adds ‖r‖² − ‖r + c·u‖² = −c (2 r·u + c).
    """
    import torch

    added = []
    for start in range(0, len(firings.codes), _FIRINGS_AT_ONCE):
        some = slice(start, start + _FIRINGS_AT_ONCE)
        along = (residue[firings.tokens[some]] * directions[firings.latents[some]]).sum(-1)
        added.append(-firings.codes[some] * (2 * along + firings.codes[some]))
    return torch.cat(added) if added else torch.zeros(0, device=residue.device)


class Sums:
    """Running sums over tokens, in float64, per latent and sign."""

    def __init__(self, width: int, device: torch.device) -> None:
        import torch

        self.error = 0.0
        # Rows: negative and positive firings. Columns: latents.
        self.count, self.strength, self.harmful, self.harm = (
            torch.zeros(2, width, dtype=torch.float64, device=device) for _ in range(4)
        )

    def add(self, sae: SAE, x: Tensor) -> None:
        """Add the firings on activations [tokens, d_model]."""
        from abench import latent_directions, reconstruct

        residue = x - reconstruct(sae, x).x_hat
        firings = Firings.of(sae, x)
        added = added_error(firings, residue, latent_directions(sae).float()).double()
        self.error += float(residue.double().square().sum())
        place = ((firings.codes > 0).long(), firings.latents)
        values = {
            "count": added.new_ones(len(added)),
            "strength": firings.codes.double().square(),
            "harmful": (added > 0).double(),
            "harm": added.clamp(min=0),
        }
        for name, each in values.items():
            getattr(self, name).index_put_(place, each, accumulate=True)

    def scores(self) -> dict[str, float]:
        """The metrics of the task; raises Skip if nothing fires."""
        import torch

        strength, firings = self.strength, float(self.count.sum())
        if firings == 0:
            raise Skip("no latent fires on the held-out text, so there are no poles to compare")
        weaker = strength.argmin(0)
        latents = torch.arange(strength.shape[1], device=strength.device)
        weaker_strength, whole = strength[weaker, latents], strength.sum(0)
        alive = self.count.sum(0) > 0
        two_sided = (weaker_strength >= TWO_SIDED_SHARE * whole)[alive]
        return {
            "two_sided_by_strength": float(two_sided.double().mean()),
            "weaker_strength": float(weaker_strength.sum() / whole.sum()),
            "weaker_firings": float(self.count[weaker, latents].sum() / firings),
            "harmful": float(self.harmful.sum() / firings),
            "harmful_weaker": float(self.harmful[weaker, latents].sum() / firings),
            "harm": float(self.harm.sum()) / self.error if self.error else 0.0,
        }
