"""Whether an SAE has negative codes: found by looking at its codes of real activations."""

from typing import Any

import torch
from torch import Tensor

from abench.latents.active import active_codes
from abench.latents.parts import dense_parts


@torch.no_grad()
def has_negative_codes(sae: Any, x: Tensor) -> bool:
    """Whether any code of activations x [tokens, d_in] is negative; use activations of held-out text.

    Looks at the tokens block by block, and stops at the first negative code.
    """
    return any(bool((active_codes(sae, part).values < 0).any()) for part in dense_parts(sae, x))
