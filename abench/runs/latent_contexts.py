"""Contexts of some latents of every SAE of a plan, stored in the results folder for the report's page.

Reading them needs neither torch nor the model; searching for them does.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from abench.results.jobs import Job
from abench.results.store import SAERecord, Store
from abench.runs.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from abench.latents.excerpts import Excerpt, TopContexts

TOKENS = 65_536
"""Held-out tokens that are searched, as in `abench show --latent`."""
PER_SIDE = 4
AROUND = 10
"""Contexts per side, and tokens on each side of a peak."""
_CANDIDATES = 2
"""Latents that are searched per latent that is stored; those that never fire are passed over."""
_SEED = 0
_FORMAT = 1

Contexts = Mapping[str, Any]
"""As stored: `asked`, `tokens`, `width`, `alive`, `signed`, and `latents` (rates, opposite, contexts)."""


def stored_contexts(plan: Plan, store: Store) -> dict[str, Contexts]:
    """Key of an SAE -> its stored contexts, for the SAEs of a plan that have some."""
    kept = store.kept()
    found = {sae.key: kept.get(_spec(sae.key)) for sae in plan.saes}
    return {key: value for key, value in found.items() if value is not None}


def search_contexts(plan: Plan, store: Store, number: int, say: Callable[[str], None]) -> None:
    """Search and store the contexts of `number` latents of every trained SAE that does not have as many.

    The SAEs of a site are searched in one pass of the model. `say` receives a sentence per site. Raises
    UserError if the model cannot be opened or reads no text, or the held-out text is shorter than a context.
    """
    there = stored_contexts(plan, store)
    lacking = [sae for sae in plan.saes if there.get(sae.key, {"asked": 0})["asked"] < number]
    pairs = [(sae, record) for sae in lacking if (record := _scored(store.get_sae(sae)))]
    pairs.sort(key=lambda pair: (pair[0].model.name, pair[0].site))
    for (model, site), group in groupby(pairs, key=lambda pair: (pair[0].model.name, pair[0].site)):
        mine = list(group)
        what = f"contexts of {number} latents of {len(mine)} SAEs"
        say(f"searching {TOKENS:,} tokens for {what}: {model}, {site}")
        _search(mine, store, number)


def _scored(record: SAERecord | None) -> SAERecord | None:
    return record if record is not None and record.status == "done" else None


def _spec(key: str) -> dict[str, Any]:
    return {"what": "contexts of latents", "format": _FORMAT, "sae": key}


def _search(pairs: "list[tuple[Job, SAERecord]]", store: Store, number: int) -> None:
    """Search the SAEs of one site."""
    from abench.data.token_rows import TokenRows
    from abench.errors import UserError
    from abench.importing.recorded import open_recorded_sae
    from abench.latents.anyones import usable
    from abench.latents.contexts import top_contexts
    from abench.results.recorded import recorded_data
    from abench.runs.recorded_model import open_recorded_model

    job, first = pairs[0]
    context = int(first.spec["model"]["context"])
    lm = open_recorded_model(first, "cpu")
    data = recorded_data(first.spec, first.provenance)
    rows = TokenRows(lm, data, "held_out", context).batch(max(1, TOKENS // context))
    if len(rows) == 0:
        raise UserError("the held-out text does not fill one context")
    saes = {each.key: usable(open_recorded_sae(store.sae(each), record)) for each, record in pairs}
    found = top_contexts(
        lm,
        rows,
        site=job.site,
        saes=list(saes.values()),
        latents=lambda sae: _candidates(int(sae.cfg.d_sae), number),
        most=number,
        number=PER_SIDE,
        around=AROUND,
    )
    kept = store.kept()
    for key, sae in saes.items():
        kept.put(_spec(key), _plain(found(sae), number, sae.W_dec.detach().float()))


def _candidates(width: int, number: int) -> list[int]:
    """Latents drawn at random, the same for SAEs of equal width, in ascending order."""
    from random import Random

    return sorted(Random(_SEED).sample(range(width), min(width, _CANDIDATES * number)))


def _plain(top: "TopContexts", number: int, decoder: "Tensor") -> dict[str, Any]:
    opposites = _opposites(decoder, [each.latent for each in top.latents])
    return {
        "asked": number,
        "tokens": top.tokens,
        "width": top.width,
        "alive": top.alive,
        "signed": top.signed,
        "latents": [
            {
                "latent": each.latent,
                "rates": [_short(each.positive_rate), _short(each.negative_rate)],
                "opposite": opposite,
                "positive": list(map(_excerpt, each.positive)),
                "negative": list(map(_excerpt, each.negative)),
            }
            for each, opposite in zip(top.latents, opposites, strict=True)
        ],
    }


def _opposites(decoder: "Tensor", latents: Iterable[int]) -> list[list[float]]:
    """For each latent the one whose decoder row has the lowest cosine with its own, and this cosine."""
    import torch

    rows = torch.nn.functional.normalize(decoder, dim=-1)
    lowest = [(rows @ rows[latent]).min(0) for latent in latents]
    return [[int(each.indices), _short(float(each.values))] for each in lowest]


def _excerpt(excerpt: "Excerpt") -> dict[str, Any]:
    return {
        "tokens": list(excerpt.tokens),
        "values": list(map(_short, excerpt.values)),
        "peak": excerpt.peak,
    }


def _short(value: float) -> float:
    return float(f"{value:.3g}")
