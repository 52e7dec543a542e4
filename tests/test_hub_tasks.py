"""Every task of `--tasks all` on each of the six architectures, models and data from the stand-in hub."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hub.client import ask, client_environment
from hub.commands import TASKS, options, small_run
from hub.contents import make_hub
from hub.models import LAYOUTS, small_config
from hub.questions import ravel_prompts_of
from hub.repository import Commit
from hub.server import MEMBER_TOKEN, Hub

from abench.results.store import Record, Store

pytestmark = pytest.mark.slow

RAVEL = "adamkarvonen/ravel_prompts"
NATIVE = ("core", "interference")
"""The tasks that score a signed SAE in one view only."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    with make_hub(folder, small=True) as hub:
        asked = hub.repositories["datasets", RAVEL]
        # A model with random weights knows nothing, so each is asked what it would say anyway.
        branches = {name: _said_by(name, hub, folder / "said" / name) for name in LAYOUTS}
        hub.repositories["datasets", RAVEL] = replace(asked, branches=branches)
        yield hub


def _said_by(name: str, hub: Hub, folder: Path) -> Commit:
    """RAVEL's files with the tokens that transformers' own greedy generation begins with as right answers."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    from abench.config import model_config

    source = hub.repositories["models", model_config(name).weights].main.folder
    tokenizer = AutoTokenizer.from_pretrained(source)
    auto = AutoModelForImageTextToText if name == "gemma-3-12b" else AutoModelForCausalLM
    model = auto.from_pretrained(source, dtype=torch.float32)

    def complete(prompts: list[str]) -> list[str]:
        begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        tokens = torch.tensor([begin + each for each in ids])
        written = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=1,
            do_sample=False,
            eos_token_id=None,
        )
        texts: list[str] = tokenizer.batch_decode(written[:, tokens.shape[1] :])
        return texts

    return ravel_prompts_of(folder, complete)


@dataclass(frozen=True)
class Ran:
    """What a command gave, and the records of its cells."""

    answer: dict[str, Any]
    records: list[Record]


@pytest.fixture(scope="module")
def ran(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    results, home = tmp_path_factory.mktemp("ran") / "results", tmp_path_factory.mktemp("home")
    commands = [
        small_run(
            small_config(name, home),
            results,
            *("--tasks", "all"),
            *options(TASKS),
            *options({"ravel": {"revisions": json.dumps({RAVEL: name})}}),
        )
        for name in LAYOUTS
    ]
    answers = ask(client_environment(hub, home, token=MEMBER_TOKEN), *commands)
    records = [record for _, record in Store.open(results, create=False).all_records()]
    return {
        name: Ran(answer, [record for record in records if record.labels["model"] == name])
        for name, answer in zip(LAYOUTS, answers, strict=True)
    }


@pytest.mark.parametrize("model", LAYOUTS)
def test_every_task_scores_on_every_architecture(ran: dict[str, Ran], model: str) -> None:
    answer, records = ran[model].answer, ran[model].records
    assert answer["code"] == 0, answer["out"] + answer["err"]
    tasks = {(record.labels["task"], record.labels["view"]) for record in records}
    assert {task for task, _ in tasks} == {*NATIVE, *TASKS}
    assert len(records) == 2 * len(NATIVE) + 3 * len(TASKS)
    skipped = {record.labels["task"]: record.reason for record in records if record.status == "skipped"}
    assert not skipped
    assert {record.status for record in records} == {"done"}
    assert all(math.isfinite(value) for record in records for value in record.scores.values())


@pytest.mark.parametrize("model", LAYOUTS)
def test_a_log_holds_lines_of_abench_and_no_bars(ran: dict[str, Ran], model: str) -> None:
    text = ran[model].answer["err"]
    assert "\r" not in text
    assert not [line for line in text.splitlines() if re.search(r"%\||it/s|s/it|examples|datasets", line)]


@pytest.mark.parametrize("model", LAYOUTS)
def test_what_stands_at_an_entity_settles_the_answer(ran: dict[str, Ran], model: str) -> None:
    """Right only if the entity's place is found, with BOS and without, and the pass is resumed behind it."""
    found = [record.details for record in ran[model].records if record.labels["task"] == "ravel"]
    ceilings = {
        attribute["ceiling"]
        for details in found
        for kind in details["attributes"].values()
        for attribute in kind.values()
    }
    assert ceilings == {1.0}
