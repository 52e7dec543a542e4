"""A folder ready for the hub: sae-lens folders with a model card that states scores and training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from abench.exporting.chosen import Chosen
from abench.exporting.saelens import REGISTERS, ExportedSAE, write_saes
from abench.exporting.scores import scores_frame
from abench.report.csvfile import write_frame
from abench.report.validity import invalid_metrics
from abench.results.records import Record, SAERecord
from abench.storage.files import write_text
from abench.version import __version__

UNKNOWN = "unknown"
"""The hub's own identifier for a model whose licence is not stated."""


def write_hub_folder(chosen: Chosen, folder: Path, *, licence: str) -> tuple[list[ExportedSAE], list[str]]:
    """Write the SAEs, their training specs, all their scores as scores.csv, and README.md, the model card.

    Returns the SAEs, and a sentence about each that could not be written. Raises UserError if none could.
    """
    saes, notes = write_saes(chosen.saes, folder)
    for sae in _trained(saes):
        spec = json.dumps(_public_spec(sae.record), indent=1, sort_keys=True)
        write_text(folder / sae.place / "training.json", spec + "\n")
    scored = [record for sae in saes for record in chosen.of(sae.record) if record.status == "done"]
    if scored:
        write_frame(scores_frame(scored), folder / "scores.csv")
    write_text(folder / "README.md", _card(saes, chosen, licence, has_scores=bool(scored)))
    return saes, notes


def _trained(saes: Sequence[ExportedSAE]) -> list[ExportedSAE]:
    return [sae for sae in saes if not sae.given]


def _public_spec(record: SAERecord) -> dict[str, Any]:
    """The training spec; of a local text only the file's name, since its folder says nothing to others."""
    spec = json.loads(json.dumps(record.spec))
    data = spec.get("data", {})
    if data.get("source") == "file" and data.get("dataset"):
        data["dataset"] = Path(data["dataset"]).name
    return {"key": record.key, "labels": record.labels, "spec": spec}


def _card(saes: Sequence[ExportedSAE], chosen: Chosen, licence: str, *, has_scores: bool) -> str:
    models = list(dict.fromkeys(str(sae.record.labels["model"]) for sae in saes))
    head = {
        "library_name": "saelens",
        "license": licence,
        "tags": ["sparse-autoencoder", "abench"],
        **_base_models(saes),
        **_data_sets(saes),
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# Sparse autoencoders of {', '.join(models)}",
        *_provenance(saes),
        _table(saes),
        "## How to load them",
        _loading(saes),
        *_training_section(_trained(saes)),
        "## Scores",
        *(_scores(sae, chosen.of(sae.record)) for sae in saes),
    ]
    if has_scores:
        parts.append("All scores, also those not shown here, are in `scores.csv`.")
    return "\n\n".join(parts) + "\n"


def _provenance(saes: Sequence[ExportedSAE]) -> list[str]:
    """Who trained the SAEs, and what their weights take."""
    trained, given = _trained(saes), [sae for sae in saes if sae.given]
    parts = []
    if trained:
        parts.append(
            f"{_subject(trained, given)}rained with abench {__version__}. Input scale and decoder norms are "
            "folded into the weights: an SAE takes the model's activations as they are."
        )
    if given:
        origins = [f"- `{sae.place}`: {_from(sae)}" for sae in given]
        parts.append(
            f"Scored, but not trained, with abench {__version__}; their weights are as they were read, in "
            "sae-lens's format:\n\n" + "\n".join(origins)
        )
    return parts


def _subject(trained: Sequence[ExportedSAE], given: Sequence[ExportedSAE]) -> str:
    """How the sentence about trained SAEs begins; it names them only if there are others."""
    return f"{', '.join(f'`{sae.place}`' for sae in trained)}: t" if given else "T"


def _from(sae: ExportedSAE) -> str:
    origin = sae.origin
    if origin is None:
        raise ValueError(f"{sae.place} has no files that it was written from")
    layout = "" if origin.format is None else f", in the format of {origin.format}"
    if origin.local:
        return f"from the local `{origin.name}`{layout}"
    owner_and_name = "/".join(origin.name.split("/")[:2])
    return f"from [`{origin.name}`](https://huggingface.co/{owner_and_name}) on the hub{layout}"


def _base_models(saes: Sequence[ExportedSAE]) -> dict[str, Any]:
    """The hub ids of the models, where the SAEs' records have them."""
    ids = [_weights(sae) for sae in saes]
    found = list(dict.fromkeys(each for each in ids if each is not None))
    return {"base_model": found} if found else {}


def _weights(sae: ExportedSAE) -> str | None:
    weights = sae.record.provenance.get("model", {}).get("weights")
    return (
        weights if isinstance(weights, str) and weights.count("/") == 1 and weights[0] not in "./" else None
    )


def _data_sets(saes: Sequence[ExportedSAE]) -> dict[str, Any]:
    data = [sae.record.spec.get("data", {}) for sae in saes]
    ids = dict.fromkeys(
        each["dataset"] for each in data if each.get("source") == "hub" and each.get("dataset")
    )
    return {"datasets": list(ids)} if ids else {}


def _table(saes: Sequence[ExportedSAE]) -> str:
    rows = [
        f"| `{sae.place}` | {labels['variant']} | {labels['k']} | {labels['width']} | {sae.config['d_in']} | "
        f"{labels['seed']} | {labels['site']} | {_loader(sae)} |"
        for sae in saes
        for labels in [_shown(sae.record.labels)]
    ]
    return "\n".join(
        [
            "| folder | variant | k | width | d_in | seed | site | loads with |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


def _shown(labels: Mapping[str, Any]) -> dict[str, Any]:
    return {name: "—" if value is None else value for name, value in labels.items()}


def _loader(sae: ExportedSAE) -> str:
    return "sae-lens" if sae.plain else "sae-lens and abench"


def _loading(saes: Sequence[ExportedSAE]) -> str:
    shown = [next((s for s in saes if s.plain), None), next((s for s in saes if not s.plain), None)]
    first = next(sae for sae in shown if sae is not None)
    blocks = [f"```python\n{_from_disk(sae)}\n```" for sae in shown if sae is not None]
    text = ["In a copy of this repository:", *blocks]
    if any(not sae.plain for sae in saes):
        text.append("Architectures that sae-lens lacks need abench: `pip install abench`.")
    from_hub = f'{_imports(first)}\n\nsae = SAE.from_pretrained("USER/REPOSITORY", "{first.place}")'
    text.append("From the hub, with the repository's id in place of `USER/REPOSITORY`:")
    text.append(f"```python\n{from_hub}\n```")
    return "\n\n".join(text)


def _from_disk(sae: ExportedSAE) -> str:
    return f'{_imports(sae)}\n\nsae = SAE.load_from_disk("{sae.place}")'


def _imports(sae: ExportedSAE) -> str:
    register = f"import {REGISTERS}  # registers the architecture {sae.architecture}\n"
    return ("" if sae.plain else register) + "from sae_lens import SAE"


def _training_section(trained: Sequence[ExportedSAE]) -> list[str]:
    if not trained:
        return []
    where = f"Each SAE's folder has its complete specification in `training.json`{_same(trained)}."
    return ["## Training", _training(trained[0]), where]


def _training(sae: ExportedSAE) -> str:
    spec = sae.record.spec
    training, data = spec.get("training", {}), _public_spec(sae.record)["spec"].get("data", {})
    rows = {
        "activations": training.get("tokens"),
        "data": data.get("dataset") or data.get("source"),
        "context": spec.get("model", {}).get("context"),
        "model's commit": spec.get("model", {}).get("commit"),
        **{
            name: training.get(name) for name in ("batch_size", "learning_rate", "normalisation", "precision")
        },
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value is not None]
    return "\n".join(["| | |", "|---|---|", *lines])


def _same(saes: Sequence[ExportedSAE]) -> str:
    return "" if len(saes) == 1 else "; the table is that of the first"


def _scores(sae: ExportedSAE, records: Sequence[Record]) -> str:
    rows = [row for record in records if record.status == "done" for row in _score_rows(record)]
    title = f"### `{sae.place}`"
    if not rows:
        return f"{title}\n\nNot scored."
    head = ["| task | view | metric | value | |", "|---|---|---|---|---|"]
    return "\n".join([title, "", *head, *rows])


def _score_rows(record: Record) -> list[str]:
    """The headline metrics of a cell; a score that does not mean anything is replaced by the reason."""
    labels, invalid = record.labels, invalid_metrics(asdict(record))
    limited = "limited to a few items" if record.limited else ""
    rows = []
    for metric in record.metrics:
        name = metric["name"]
        if not metric.get("headline"):
            continue
        value = "—" if name in invalid else f"{record.scores[name]:.4g}"
        note = f"not meaningful: {invalid[name]}" if name in invalid else limited
        rows.append(
            f"| {labels['task']} {labels['task_version']} | {labels['view']} | `{name}` | {value} | {note} |"
        )
    return rows
