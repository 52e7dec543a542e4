"""From amounts of work to floating-point operations, for a model of known sizes."""

from dataclasses import dataclass

from abench.cost import Work
from abench.lm.dimensions import Dimensions


@dataclass(frozen=True)
class SAESizes:
    """The sizes of an SAE that its cost depends on."""

    d_in: int
    width: int
    k: int

    @property
    def weights(self) -> int:
        return 2 * self.d_in * self.width


def of_work(work: Work, model: Dimensions | None, blocks_below: int, sae: SAESizes) -> float:
    """Floating-point operations of some work; `blocks_below` are the blocks up to the site.

    A token costs two operations per weight (Kaplan et al. 2020), a gradient with respect to activations as
    much again. Attention between tokens is left out: less than 5 % at contexts of a few hundred tokens.
    """
    own = 2.0 * work.encoded * sae.d_in * sae.width + 2.0 * work.decoded * sae.d_in * sae.k
    if model is None:
        return own
    block = 2.0 * model.block_parameters
    above = model.n_layers - blocks_below
    logits = 2.0 * (model.vocabulary or 0) * model.d_model
    return (
        own
        + work.lower * block * blocks_below
        + (work.upper + work.backward) * block * above
        + work.logits * logits
        + work.generated * (block * model.n_layers + logits)
    )


def of_step(sae: SAESizes, batch_size: int, *, dense_share: float = 0.0) -> float:
    """Floating-point operations of one training step of one SAE.

    The encoder's product is dense; the other three products (reconstruction, and the gradients of decoder and
    encoder, the latter through the codes) only need active latents, except in the `dense_share` of steps in
    which most latents are active. Adam takes about ten operations per weight.
    """
    product = 2.0 * batch_size * sae.d_in * sae.width
    sparse = 2.0 * batch_size * sae.d_in * sae.k
    return product + 4 * (dense_share * product + (1 - dense_share) * sparse) + 10.0 * sae.weights
