"""RAVEL's prompts: templates about an attribute, filled with entities, and the attribute's value as label.

The entities are the tiny world's cities and people, or RAVEL's cities and Nobel prize winners from
sae-bench's copy on the hub (four JSON files per kind of entity, of which two are read here).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from abench import Context, UserError, load_hub_files
from abench.tinyworld import TEMPLATES, World

from .._shared.labelled import is_tiny

REPOSITORY = "adamkarvonen/ravel_prompts"
HUB_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "city": ("Country", "Continent", "Language"),
    "nobel_prize_winner": ("Country of Birth", "Field", "Gender"),
}
"""The attributes that sae-bench 0.6.0 evaluates (`RAVELEvalConfig.entity_attribute_selection`)."""
TINY_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "city": ("country", "continent", "language"),
    # Gender is left out: the bundled model reads it from the name before the first site, so no exchange at
    # the entity's last token changes it.
    "person": ("country", "field"),
}


@dataclass(frozen=True)
class Prompt:
    """One entity in one template. `before + entity + after` is the text; `label` should follow it."""

    kind: str
    attribute: str
    before: str
    entity: str
    after: str
    label: str

    @property
    def text(self) -> str:
        return self.before + self.entity + self.after


def prompts_by_kind(
    attributes: Mapping[str, tuple[str, ...]],
    ctx: Context,
    most: int | None,
    revision: str | None = None,
    own: Path | None = None,
) -> dict[str, list[Prompt]]:
    """All prompts of each kind of entity, entity by entity; at most `most` random ones per attribute.

    `own` is a file or folder of the user's, in place of the tiny world's or the hub's prompts.

    Raises UserError for unknown kinds and attributes, for missing or incomplete files, and if the hub's
    prompts are neither cached nor available.
    """
    read = _reader(ctx, revision, own)
    return {kind: _some(read(kind, names), most, ctx.evaluation.seed) for kind, names in attributes.items()}


def _reader(
    ctx: Context, revision: str | None, own: Path | None
) -> Callable[[str, tuple[str, ...]], list[Prompt]]:
    if own is not None:
        from .own_prompts import own_prompts

        return partial(own_prompts, own)
    return tiny_prompts if is_tiny(ctx) else partial(folder_prompts, hub_folder(revision))


def _some(prompts: list[Prompt], most: int | None, seed: int) -> list[Prompt]:
    if most is None:
        return prompts
    kept: set[int] = set()
    for attribute in dict.fromkeys(prompt.attribute for prompt in prompts):
        numbers = [i for i, prompt in enumerate(prompts) if prompt.attribute == attribute]
        kept |= set(Random(f"ravel {attribute} {seed}").sample(numbers, min(most, len(numbers))))
    return [prompt for i, prompt in enumerate(prompts) if i in kept]


def tiny_prompts(kind: str, attributes: tuple[str, ...]) -> list[Prompt]:
    """The tiny world's prompts about cities or people."""
    if kind not in TEMPLATES:
        raise UserError(
            f"ravel: the tiny world has no entities of kind '{kind}'; its kinds are {' and '.join(TEMPLATES)}"
        )
    templates = {name: _of(TEMPLATES[kind], name, f"the tiny world's {kind}") for name in attributes}
    world = World()
    return [
        Prompt(kind, name, *parts_of(template, entity.name, "{entity}"), entity.answer(name))
        for entity in (world.cities if kind == "city" else world.people)
        for name in attributes
        for template in templates[name]
    ]


def folder_prompts(folder: Path, kind: str, attributes: tuple[str, ...]) -> list[Prompt]:
    """The prompts about one kind of entity, read from RAVEL's files in a folder."""
    values = content_of(folder / f"ravel_{kind}_entity_attributes.json")
    every = content_of(folder / f"ravel_{kind}_attribute_to_prompts.json")
    for name in attributes:
        _of(every, name, f"ravel_{kind}_attribute_to_prompts.json")
    # In the order of the file, as in sae-bench, because pairs are drawn from this order.
    templates = {name: each for name, each in every.items() if name in attributes}
    prompts = []
    for entity, labels in values.items():
        if not entity:
            raise UserError(f"ravel: an entity in ravel_{kind}_entity_attributes.json has an empty name")
        for name, each in templates.items():
            label = _of(labels, name, f"'{entity}' in ravel_{kind}_entity_attributes.json")
            # An empty label means that RAVEL does not know the value, so no answer would be correct.
            if label:
                prompts += [Prompt(kind, name, *parts_of(t, entity, "%s"), label) for t in each]
    return prompts


def parts_of(template: str, entity: str, gap: str) -> tuple[str, str, str]:
    """The text before the entity, the entity, and the text after it; `gap` is the entity's place."""
    parts = template.split(gap)
    if len(parts) != 2:
        raise UserError(f"ravel: the template {template!r} must contain {gap}, for the entity, exactly once")
    return parts[0], entity, parts[1]


def _of(mapping: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in mapping:
        raise UserError(f"ravel: {where} has no attribute '{name}'; it has {', '.join(mapping)}")
    return mapping[name]


def content_of(file: Path) -> dict[str, Any]:
    """The object in one of RAVEL's files; raises UserError if it is missing, damaged or empty."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"ravel: {file.name} is missing from {file.parent}") from error
    except ValueError as error:
        raise UserError(f"ravel: {file} is not valid JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"ravel: {file} has no entries")
    return content


def hub_folder(revision: str | None = None) -> Path:
    """The folder with sae-bench's copy of RAVEL; raises UserError if it is neither cached nor available."""
    return load_hub_files(REPOSITORY, "*.json", revision)
