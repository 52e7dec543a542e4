"""All about one latent of a trained SAE: contexts, rates, neighbours, and what it makes a model say."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from abench import opening
from abench.activations import TokenRows
from abench.catalogue import find_model, local_commit
from abench.config import DataSpec, EvaluationSpec, ModelConfig
from abench.contexts import LatentContexts, TopContexts, top_contexts
from abench.decoding import latent_directions
from abench.errors import UserError
from abench.few_latents import check_latents
from abench.models import LanguageModel, site_name
from abench.store import SAERecord
from abench.task import Context

Ranked = tuple[tuple[Any, float], ...]
"""Things with their numbers, most remarkable first."""


@dataclass(frozen=True)
class LatentCard:
    """One latent, ready to be printed."""

    contexts: LatentContexts | None
    """None if the latent never fires."""
    signed: bool
    """Whether the SAE has negative codes; without, negative contexts are those of lowest pre-activation."""
    tokens: int
    """Held-out tokens that were gone through."""
    nearest: Ranked
    """Other latents by the cosine of their decoder rows, the highest first."""
    opposite: Ranked
    """The same, the lowest first."""
    promoted: Ranked
    """Tokens whose logit a positive code raises most, each with its change against the mean token."""
    suppressed: Ranked

    def plain(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def latent_card(
    lm: LanguageModel,
    sae: Any,
    latent: int,
    *,
    site: str,
    data: DataSpec,
    context_size: int,
    tokens: int,
    number: int = 8,
) -> LatentCard:
    """Look at one latent on `tokens` held-out tokens; raises UserError if the SAE has no such latent."""
    check_latents(sae, [latent])
    rows = TokenRows(lm, data, "held_out", context_size).batch(max(1, tokens // context_size))
    if len(rows) == 0:
        raise UserError("the held-out text does not fill one context")
    ctx = Context(site, EvaluationSpec(), data, context_size, device=str(lm.device), saes=(sae,))
    with torch.no_grad():
        top: TopContexts = top_contexts(lm, rows, ctx, latents=lambda _: [latent], number=number)(sae)
        nearest, opposite = neighbours(sae.W_dec.detach().float(), latent, number)
        promoted, suppressed = said(lm, latent_directions(sae, [latent])[0].detach(), number)
    found = top.latents[0] if top.latents else None
    return LatentCard(found, top.signed, top.tokens, nearest, opposite, promoted, suppressed)


def neighbours(decoder: Tensor, latent: int, number: int) -> tuple[Ranked, Ranked]:
    """The latents whose decoder rows [latents, d] point most along and most against that of one."""
    rows = torch.nn.functional.normalize(decoder, dim=-1)
    cosines = rows @ rows[latent]
    others = torch.arange(len(rows), device=rows.device) != latent
    order = cosines[others].argsort(descending=True)
    places = others.nonzero().flatten()[order].tolist()
    ranked = [(place, float(cosines[place])) for place in places]
    return tuple(ranked[:number]), tuple(reversed(ranked[-number:]))


def said(lm: LanguageModel, direction: Tensor, number: int) -> tuple[Ranked, Ranked]:
    """The tokens whose logits a direction [d_model] raises and lowers most by itself, and by how much.

    The direction goes through what comes after the last block, which is a norm and the unembedding; what
    blocks in between make of it is left out. Changes are against the mean over all tokens, up to the scale
    that the norm gives.
    """
    nothing = torch.zeros_like(direction)
    residual = torch.stack([direction, nothing])[:, None].to(lm.device)
    tokens = torch.zeros(2, 1, dtype=torch.int64)
    moved, unmoved = lm.logits_from(residual, tokens, site_name(lm.n_layers - 1))[:, 0].float()
    # What comes out for nothing is the biases of norm and unembedding, which are not the direction's doing.
    logits = moved - unmoved
    logits = logits - logits.mean()
    order = logits.argsort(descending=True).tolist()
    ranked = [(lm.tokenizer.decode([token]), float(logits[token])) for token in order[:number]]
    lowest = [(lm.tokenizer.decode([token]), float(logits[token])) for token in reversed(order[-number:])]
    return tuple(ranked), tuple(lowest)


def open_model(record: SAERecord, device: str, model: str | None = None) -> LanguageModel:
    """The model that an SAE was trained on, at its recorded place, or at `model` if it has moved.

    Raises UserError if it is no language model, cannot be found, or its weights have changed since.
    """
    spec: Mapping[str, Any] = record.spec["model"]
    name = str(record.labels["model"])
    if "synthetic" in spec:
        raise UserError(f"the SAE was trained on the synthetic model {name}, which reads no text")
    config, wanted = _config_of(record, model), str(spec["commit"])

    def other(found: str) -> str:
        return (
            f"the weights of {model or name} are not those that the SAE was trained on (commit "
            f"{wanted[:12]}, here {found[:12]})"
        )

    # Before anything is loaded, which can take minutes.
    commit = local_commit(config)
    if commit is not None and commit != wanted:
        raise UserError(other(commit))
    lm = opening.open_model(
        config,
        name=name,
        commit=wanted,
        dtype=spec["dtype"],
        eos_after_documents=spec["eos_after_documents"],
        device=device,
        otherwise=lambda _, found: other(found),
    )
    if not isinstance(lm, LanguageModel):
        raise UserError(f"{model or name} is a synthetic model, which reads no text")
    return lm


def _config_of(record: SAERecord, model: str | None) -> ModelConfig:
    name, kept = str(record.labels["model"]), record.provenance.get("model")
    if model is not None:
        return find_model(model)[1]
    if kept is None:
        # An SAE of an abench that kept no more than the model's name.
        return find_model(name.replace("--", "/"))[1]
    try:
        config = ModelConfig.model_validate(kept)
    except ValidationError as error:
        raise UserError(
            f"what the SAE's record says of its model {name} cannot be read: name the model with --model"
        ) from error
    if Path(config.weights).is_absolute() and not Path(config.weights).is_dir():
        raise UserError(
            f"the SAE was trained on the model {name} in {config.weights}, which is not there: say with "
            "--model where it is now"
        )
    return config
