"""How the work of training divides between the language model and the SAEs, estimated from their sizes."""

from dataclasses import dataclass

from abench.config import ModelConfig
from abench.results.jobs import Job
from abench.runs.plan import Plan
from abench.sites import layer_of


@dataclass(frozen=True)
class TrainingCost:
    """Floating-point operations per training token."""

    reading: int
    """The forward passes up to the sites, which all SAEs of a site share."""
    first_saes: int
    """The steps of one SAE per site."""
    all_saes: int
    """The steps of all SAEs."""

    @property
    def all_over_first(self) -> float:
        """The cost of training all SAEs, relative to training one per site."""
        return (self.reading + self.all_saes) / (self.reading + self.first_saes)


def training_cost(plan: Plan) -> TrainingCost | None:
    """The estimated cost of training; None if nothing is trained, or on synthetic activations.

    Those need no forward pass.
    """
    model = plan.model.config
    each = {group.site: [_of_step(sae, model) for sae in group.saes if sae.trained] for group in plan.groups}
    each = {site: costs for site, costs in each.items() if costs}
    if model.kind != "language" or not each:
        return None
    return TrainingCost(
        reading=sum(_of_reading(model, layer_of(site)) for site in each),
        first_saes=sum(costs[0] for costs in each.values()),
        all_saes=sum(map(sum, each.values())),
    )


def _of_reading(model: ModelConfig, layer: int) -> int:
    """A token's forward pass through blocks 0 to `layer`: 12 d² weights per block (Kaplan et al. 2020)."""
    return (layer + 1) * 2 * 12 * model.d_model**2


def _of_step(sae: Job, model: ModelConfig) -> int:
    """A token's part of a step: the product with the encoder, and as much for all sparse products."""
    return 2 * 2 * model.d_model * sae.width
