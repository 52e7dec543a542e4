"""Texts read for one SAE: where its activations come from, and the rows of tokens, as in its training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from abench.data.text_rows import text_rows
from abench.errors import UserError
from abench.latents.anyones import usable
from abench.lm.models import LanguageModel, model_of
from abench.sae import SAE

_USUAL_CONTEXT = 128


@dataclass(frozen=True)
class Reading:
    """A model, an SAE and the rows of tokens to read."""

    lm: LanguageModel
    sae: SAE
    rows: Tensor
    """[rows, context]."""
    site: str

    @classmethod
    def of(
        cls,
        lm: LanguageModel | str | Path,
        sae: Any,
        texts: Sequence[str],
        *,
        site: str | None,
        context: int | None,
    ) -> "Reading":
        """Tokenise texts as in training, and find the site and the context in the SAE's configuration.

        Raises UserError if the SAE does not name a site that abench knows and none is given, and if the SAE
        does not fit the model.
        """
        lm, sae = model_of(lm), usable(sae)
        site = site or _recorded(sae, "hook_name")
        if site is None:
            raise UserError(
                f"{sae!r:.80} does not state whose activations it reads: give site='blocks.L.hook_resid_post'"
            )
        if sae.cfg.d_in != lm.d_model:
            raise UserError(
                f"the SAE takes activations of width {sae.cfg.d_in}, but those of {lm.name} are of width "
                f"{lm.d_model}"
            )
        size = context or _recorded(sae, "context_size") or _USUAL_CONTEXT
        return cls(lm, sae, text_rows(lm, texts, min(size, lm.max_context or size)), site)


def _recorded(sae: Any, name: str) -> Any:
    """What the metadata of an SAE of sae-lens state about its training; None if they do not."""
    return getattr(getattr(sae.cfg, "metadata", None), name, None)
