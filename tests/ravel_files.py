"""The tiny world's entities in the form of RAVEL's files on the hub, in the hub client's cache."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from abench.tasks.ravel.prompts import REPOSITORY, TINY_ATTRIBUTES

from abench.tinyworld import World
from abench.tinyworld.entities import TEMPLATES

KINDS = {"city": "city", "nobel_prize_winner": "person"}
"""RAVEL's kinds of entities -> the tiny world's."""
ENTITIES = 50
ATTRIBUTES = {kind: TINY_ATTRIBUTES[tiny] for kind, tiny in KINDS.items()}


def files(kind: str) -> dict[str, Mapping[str, Any]]:
    """RAVEL's four files about a kind: name -> content."""
    world = World()
    entities = (world.cities if kind == "city" else world.people)[:ENTITIES]
    prompts = {
        name: [template.format(entity="%s") for template in templates]
        for name, templates in TEMPLATES[KINDS[kind]].items()
    }
    every = [template for templates in prompts.values() for template in templates]
    return {
        f"ravel_{kind}_entity_attributes.json": {e.name: {n: e.answer(n) for n in prompts} for e in entities},
        f"ravel_{kind}_attribute_to_prompts.json": prompts,
        f"ravel_{kind}_prompt_to_split.json": dict.fromkeys(every, "train"),
        f"ravel_{kind}_entity_to_split.json": {entity.name: "train" for entity in entities},
    }


def write(folder: Path, *, without: str = "") -> None:
    """Both kinds' files, but for the one named."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        for name, content in files(kind).items():
            if name != without:
                (folder / name).write_text(json.dumps(content), encoding="utf-8")


def cache(home: Path, monkeypatch: pytest.MonkeyPatch, *, without: str = "") -> Path:
    """Lets the hub's client find the files in its cache; gives the folder they lie in."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home))
    repository = home / f"datasets--{REPOSITORY.replace('/', '--')}"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    write(repository / "snapshots" / commit, without=without)
    return repository / "snapshots" / commit
