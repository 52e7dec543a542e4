"""Checks of SAEs that abench did not train, on held-out text, before they are scored."""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from abench.config import DataSpec
from abench.data.activations import ActivationSource
from abench.data.token_rows import TokenRows
from abench.errors import UserError
from abench.importing.trust import findings
from abench.latents.parts import dense_parts
from abench.lm.catalogue import recorded
from abench.lm.models import LanguageModel
from abench.lm.tokens import ordinary
from abench.progress import Progress
from abench.results.recorded import text_place
from abench.results.store import SAERecord, Store
from abench.runs.given import GivenSAE
from abench.runs.provenance import provenance

CHECKED_TOKENS = 2048
"""Activations of held-out text on which an SAE is checked."""
_ENCODED_TWICE = 32


def check_given(
    jobs: Sequence[GivenSAE],
    lm: LanguageModel | ActivationSource,
    store: Store,
    progress: Progress,
    *,
    device: str,
    data: DataSpec,
) -> None:
    """Open each SAE, run it on held-out text and store a record of it: done, or failed with the reason.

    What its configuration promises but the text does not show is reported, and stored in the record's
    provenance as `findings`. All jobs have the same model and site. Raises StorageError.
    """
    held_out = HeldOut(lm, jobs[0].site, data, jobs[0].model.context)
    for job in jobs:
        with store.claim(job.key) as lease:
            known = None if lease is None else store.get_sae(job)
            if lease is None or (known is not None and known.status == "done"):
                continue
            record = _checked(job, held_out, device, progress.say)
            store.put_sae(job, record, None, lease)


class HeldOut:
    """The first activations of held-out text at a site, about 2,048 of them, [tokens, d_model] (float32)."""

    def __init__(self, lm: LanguageModel | ActivationSource, site: str, data: DataSpec, context: int) -> None:
        """Raises UserError if there is no held-out text."""
        if not isinstance(lm, LanguageModel):
            raise UserError("a synthetic model can only be read by SAEs that abench trains")
        self._lm, self._site, self.data = lm, site, data
        self._tokens = TokenRows(lm, data, "held_out", context).batch(max(1, CHECKED_TOKENS // context))
        if not len(self._tokens):
            raise UserError("there is no held-out text to check SAEs on")

    @cached_property
    def x(self) -> Tensor:
        """The activations of text that begins as the model's text does: with BOS, if it has one."""
        return self._read(self._tokens)

    @cached_property
    def without_bos(self) -> Tensor | None:
        """The same text without BOS; None if the model has none."""
        return None if self._lm.bos_id is None else self._read(self._tokens[:, 1:])

    def _read(self, tokens: Tensor) -> Tensor:
        return self._lm.residual(tokens, self._site)[ordinary(tokens, self._lm)].float()


def _checked(job: GivenSAE, held_out: HeldOut, device: str, say: Callable[[str], None]) -> SAERecord:
    found: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    reason: str | None = None
    try:
        sae = job.source.load(device)
        config = _plain_config(sae)
        with torch.no_grad():
            reason = _problem(sae, held_out.x)
            if reason is None:
                found = findings(sae, job.source.promised, held_out.x, other_bos=held_out.without_bos)
    except UserError as error:
        reason = str(error)
    except Exception as error:  # an `encode` of any class may raise anything; it is that SAE's failure
        reason = f"{type(error).__name__}: {error}"
    for sentence in found:
        say(f"{job.name}: {sentence}")
    return SAERecord(
        key=job.key,
        status="done" if reason is None else "failed",
        labels=job.labels(),
        spec=job.spec(),
        reason=reason,
        provenance=provenance(device, 0.0)
        | {
            "model": recorded(job.model.config),
            "sae": job.source.place,
            "understood": {"format": job.source.format, "config": config},
            "findings": list(found),
        }
        | text_place(held_out.data),
    )


def _plain_config(sae: Any) -> dict[str, Any]:
    """The configuration in sae-lens's terms as plain JSON, so that exports need not open the SAE."""
    if not hasattr(sae.cfg, "to_dict"):
        return {"architecture": type(getattr(sae, "wrapped", sae)).__name__, "d_in": sae.cfg.d_in}
    plain: dict[str, Any] = json.loads(json.dumps(sae.cfg.to_dict(), default=str))
    return plain


def _problem(sae: Any, x: Tensor) -> str | None:
    """Why an SAE cannot be scored on activations [tokens, d_model], as a sentence; None if it can."""
    if sae.cfg.d_in != x.shape[1]:
        return f"it takes activations of width {sae.cfg.d_in}, but the model's are of width {x.shape[1]}"
    for rows in dense_parts(sae, x.to(sae.dtype)):
        codes = sae.encode(rows)
        if tuple(codes.shape) != (len(rows), sae.cfg.d_sae):
            wanted = [len(rows), sae.cfg.d_sae]
            return f"encode returns codes of shape {list(codes.shape)} instead of {wanted}"
        decoded = sae.decode(codes)
        if decoded.shape != rows.shape:
            return f"decode returns {list(decoded.shape)} for activations {list(rows.shape)}"
        for what, values in (("codes", codes), ("reconstructions", decoded)):
            if not bool(values.isfinite().all()):
                return f"its {what} of held-out text are not finite"
    few = x[:_ENCODED_TWICE].to(sae.dtype)
    if not torch.equal(sae.encode(few), sae.encode(few)):
        return "encode is not deterministic: the same activations get other codes the second time"
    return None
