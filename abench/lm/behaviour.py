"""Checks of what abench assumes about a language model, run on a few tokens when the model is opened.

Architectures differ in ways that no configuration states. A model whose blocks violate the assumptions would
silently give wrong numbers.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from abench.errors import UserError
from abench.sites import is_after_block, site_name

if TYPE_CHECKING:
    from abench.lm.models import LanguageModel

_TOKENS = 6
_ROUNDING = {torch.float32: 1e-3}
_COARSE_ROUNDING = 5e-2
"""Largest difference that still counts as equal, as a fraction of the largest value."""


@torch.inference_mode()
def check_behaviour(lm: "LanguageModel") -> None:
    """Raise UserError unless attention is causal and a forward pass can be resumed after a block."""
    tokens = _tokens(lm)
    other = tokens.clone()
    other[:, -1] = 0
    top, first = site_name(lm.n_layers - 1), site_name(0)
    try:
        residual, logits = lm.residuals(tokens, [first, top]), lm.logits(tokens)
        changed = lm.residual(other, top)
        resumed = [lm.logits_from(residual[site], tokens, site) for site in (first, top)]
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError) as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise _unfit(lm, f"it cannot be run from the residual stream after a block ({cause})") from error
    if residual[top].shape != (1, _TOKENS, lm.d_model):
        raise _unfit(lm, f"its blocks return {list(residual[top].shape)}, not [batch, sequence, d_model]")
    if not _alike(residual[top][:, :-1], changed[:, :-1]):
        raise _unfit(lm, "its tokens attend to later tokens")
    if not all(_alike(each, logits) for each in resumed):
        raise _unfit(lm, "its logits are not determined by the residual stream after a block")


@torch.inference_mode()
def check_sites(lm: "LanguageModel", sites: Sequence[str]) -> None:
    """Raise UserError for a site that the model lacks, or with which a forward pass cannot be resumed.

    That the residual stream after a block determines the logits is checked by `check_behaviour`, which every
    model must satisfy. The other sites are checked only where they are used.
    """
    inside = [site for site in sites if not is_after_block(site)]
    if not inside:
        return
    tokens = _tokens(lm)
    logits = lm.logits(tokens)
    for site in inside:
        if not _alike(lm.logits_from(lm.residual(tokens, site), tokens, site), logits):
            raise UserError(
                f"{lm.name} ({type(lm.model).__name__}) has no site {site} that abench can use: its logits "
                "change if the activations there are replaced by themselves; use the site resid_post"
            )


def _tokens(lm: "LanguageModel") -> Tensor:
    """A row of different tokens, [1, tokens]."""
    return torch.arange(1, 1 + _TOKENS)[None] % lm.vocabulary


def _alike(first: Tensor, second: Tensor) -> bool:
    rounding = _ROUNDING.get(first.dtype, _COARSE_ROUNDING)
    first, second = first.float(), second.float()
    if not bool(first.isfinite().all() and second.isfinite().all()):
        return True  # overflow is reported where the activations are used
    return torch.allclose(first, second, rtol=0, atol=rounding * float(second.abs().max()))


def _unfit(lm: "LanguageModel", cause: str) -> UserError:
    kind = type(lm.model).__name__
    return UserError(f"{lm.name} ({kind}) is not a language model that abench can use: {cause}")
