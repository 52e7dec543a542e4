"""`abench.evaluate`: the scores of anyone's SAEs, without training anything."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from abench.latents.signedness import has_negative_codes
from abench.lm.devices import computing_device, usable_device
from abench.progress import for_stderr
from abench.results.store import Store
from abench.runs.given import GivenSAE
from abench.runs.given_check import HeldOut
from abench.runs.given_saes import Given
from abench.runs.in_memory import by_name, given_in_memory
from abench.runs.opened_model import OpenedModel, opened
from abench.runs.plan import Plan
from abench.runs.planner import RunRequest, plan_run
from abench.runs.runner import run_plan
from abench.runs.scored import Scored


def evaluate(
    saes: Any,
    *,
    model: Any,
    site: str | None = None,
    tasks: Sequence[str] | str = ("core",),
    results: str | Path | None = None,
    signed: bool | None = None,
    device: str | None = None,
    plugins: Sequence[str | Path] = (),
    **configuration: Any,
) -> Scored:
    """Score SAEs on any of the tasks; several are compared in one pass.

    `saes` is one SAE or a dict of names and SAEs. An SAE is anything with `encode`, `decode` and `W_dec`
    (`abench.SAE`), or the path or hub id of one. `model` is a name (as `--model` takes it), a folder, a hub
    id, a `LanguageModel`, or a transformers model with its tokenizer as a pair. `site` is what the SAEs read,
    e.g. `blocks.6.hook_resid_post`; None uses what each states. `tasks` are names, or `all`. With a folder
    `results`, scores are stored there, and calling it again computes only what is missing. Whether latents
    are signed is found out on held-out text unless `signed` says so. Further keywords are keys of a run's
    configuration: `data={"source": "file", "dataset": "texts.jsonl"}`, `evaluation={"limit": 100}`,
    `task_options={...}`, `context=256`.

    Raises UserError for a description that is not valid, or if no SAE can be used. An SAE that cannot be
    scored, and a task that fails, do not raise: the result's `failed` names them.
    """
    asked = usable_device(device)
    where = computing_device(asked)
    lm = opened(model, device=asked, dtype=configuration.get("dtype"))
    named = by_name(saes)
    given = given_in_memory(named, signed=signed)
    options = {
        "variants": [],
        "saes": list(named),
        "tasks": [tasks] if isinstance(tasks, str) else list(tasks),
        "sae_site": site,
        "model": lm.name,
        **configuration,
    }
    request = RunRequest(
        options={key: value for key, value in options.items() if value is not None},
        plugins=tuple(map(Path, plugins)),
    )
    progress = for_stderr()
    first = plan_run(request, fetch=False, say=progress.say, opened=lm, in_memory=given)
    given = _with_signs(given, first, lm, where)
    plan = plan_run(request, fetch=False, say=progress.say, opened=lm, in_memory=given)
    store = Store.in_memory() if results is None else Store.open(results, create=True)
    outcome = run_plan(plan, store, progress=progress, device=where, lm=lm.lm)
    return Scored(plan, store, outcome)


def _with_signs(given: Given, plan: Plan, model: OpenedModel, device: str) -> Given:
    """The SAEs, of which it is now known whether their codes of held-out text can be negative."""
    found: dict[str, bool] = {}
    for group in plan.groups:
        unknown = [job for job in group.saes if isinstance(job, GivenSAE) and job.source.signed is None]
        if unknown:
            x = HeldOut(model.lm, group.site, plan.data, plan.model.context).x
            found |= {job.source.identity: _is_signed(job, x, device) for job in unknown}
    known = (replace(sae, signed=found.get(sae.identity, sae.signed)) for sae in given.saes)
    return Given(tuple(known), given.refused)


def _is_signed(job: GivenSAE, x: torch.Tensor, device: str) -> bool:
    try:
        return has_negative_codes(job.source.load(device), x.to(device))
    except Exception:
        return False  # the SAE fails in the same way when it is checked, with its reason
