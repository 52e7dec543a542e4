"""Progress of tasks' passes: silent if quick, with rate and time left if not, one display for all bars."""

import io
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from abench.tasks.absorption import Absorption
from abench.tasks.bidirectionality import Bidirectionality
from abench.tasks.ravel import Ravel
from abench.tasks.scr import SCR
from abench.tasks.sparse_probing import SparseProbing
from abench.tasks.tpp import TPP
from abench.tasks.unlearning import Unlearning
from signed import random_sae

from abench import Context, LanguageModel, Task, passes
from abench.config import DataSpec, EvaluationSpec
from abench.passes import pass_of
from abench.progress import Lines, Silent
from abench.tinyworld import MODEL_DIR

SITE = "blocks.0.hook_resid_post"


def lines_of(work: Callable[[Context], None]) -> list[str]:
    stream = io.StringIO()
    work(context(progress=Lines(stream, every=0)))
    return stream.getvalue().splitlines()


def context(**fields: Any) -> Context:
    data = DataSpec(source="tinyworld", dataset=None)
    return Context(SITE, EvaluationSpec(limit=24, tokens=2048), data, context_size=128, **fields)


def test_a_quick_pass_shows_nothing() -> None:
    assert lines_of(lambda ctx: list(ctx.track(range(100), "reading", "texts")) and None) == []


def test_a_pass_shows_title_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "SHOWN_AFTER_SECONDS", 0.1)

    def work(ctx: Context) -> None:
        with ctx.steps("reading", 10, "texts") as steps:
            for done in range(1, 11):
                time.sleep(0.03)
                steps.advance_to(done)

    lines = lines_of(work)
    assert 1 <= len(lines) < 10
    for line in lines:
        assert re.fullmatch(r"reading \d/10 · [\d.,]+ texts/s · (\d+ s|\?) left", line), line
    assert not lines[-1].startswith("reading 10/10")


def test_tracking_yields_the_items_in_order() -> None:
    ctx = context()
    assert list(ctx.track(["a", "b"], "reading")) == ["a", "b"]
    assert list(ctx.track((), "reading")) == []


def test_the_end_of_a_long_pass_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "SHOWN_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(passes, "LINE_EVERY_SECONDS", 0.0)
    lines = lines_of(lambda ctx: list(ctx.track(range(2), "reading", "texts")) and None)
    assert [line.split(" · ")[0] for line in lines] == ["reading 0/2", "reading 1/2", "reading 2/2"]


NESTED = """
import time
from abench import passes
from abench.progress import for_stderr

passes.SHOWN_AFTER_SECONDS = 0.0
progress = for_stderr()
with progress.steps("scoring a task", 2) as outer:
    for number in (1, 2):
        with passes.pass_of(progress, f"reading {number}", 5, "texts") as inner:
            for done in range(1, 5):
                time.sleep(0.1)
                inner.advance_to(done)
                progress.say(f"said {number} {done}")
        outer.advance_to(number, "an SAE")
with progress.steps("alone", 1) as again:
    time.sleep(0.2)
"""


def test_bars_within_bars_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", NESTED], stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                piece = terminal.read(4096)
            except OSError:  # Linux reports the end of a terminal in this way
                break
            if not piece:
                break
            shown += piece
    assert process.wait() == 0, shown.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    for expected in ("scoring a task", "reading 1", "reading 2", "texts/s", "said 2 4", "alone"):
        assert expected in text
    # Both bars are on the screen at the same time.
    assert re.search(r"scoring a task[^\r\n]*\r?\n\r?reading 1", text)


# --- the passes of the tasks --------------------------------------------------------------------------------


@dataclass
class Seen(Silent):
    """Progress that remembers every pass: title -> total and the numbers of units done."""

    passes: dict[str, tuple[int, list[int]]] = field(default_factory=dict)

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator[Any]:
        numbers: list[int] = []
        self.passes[title] = (total, numbers)
        yield type(
            "Steps", (), {"advance_to": lambda _, number, detail="", left=None: numbers.append(number)}
        )()


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


PROBES = {"train": 40, "test": 20, "context": 32, "probe_epochs": 3}
TASKS: list[tuple[Task, set[str]]] = [
    (
        SparseProbing(datasets=("tinyworld/reviews",), context=32),
        {
            "reading tinyworld/reviews",
            "probes on the residual stream, tinyworld/reviews",
            "probes on latents",
        },
    ),
    (
        TPP(datasets=("tinyworld/reviews",), **PROBES),
        {"tinyworld/reviews: reading", "tinyworld/reviews: training probes"},
    ),
    (
        SCR(datasets=("tinyworld/reviews",), **PROBES),
        {"tinyworld/reviews book/film: reading", "tinyworld/reviews book/film: training probes"},
    ),
    (
        Ravel(entities=("person",), pairs=24),
        {
            "prompts about person entities",
            "the residual stream of prompts",
            "mask for field of person",
            "exchanging field of person",
            "exchanging the whole residual stream, field of person",
        },
    ),
    (
        Absorption(epochs=3, min_letters=1, min_probe_f1=0.0),
        {"words for training", "words for testing", "words that the probe knows", "letters"}
        | {"probe on the residual stream", "probe on latents"},
    ),
    (
        Unlearning(orders=2, min_questions=1, dataset_size=8),
        {"questions on toxins", "reading known questions", "reading the text to forget"}
        | {"answers with clamped latents"},
    ),
    (Bidirectionality(latents=4, validation=0), {"contexts of latents"}),
]


@pytest.mark.parametrize(("task", "titles"), TASKS, ids=lambda value: getattr(value, "name", ""))
def test_long_passes_of_tasks_show_progress(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, task: Task, titles: set[str]
) -> None:
    monkeypatch.setattr(passes, "SHOWN_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(passes, "LINE_EVERY_SECONDS", 0.0)
    seen, sae = Seen(), random_sae("topk", width=64)
    ctx = context(progress=seen, saes=(sae,))
    if task.name == "absorption":
        ctx = Context(SITE, EvaluationSpec(limit=300), ctx.data, 128, saes=(sae,), progress=seen)
    with torch.no_grad():
        assert task.skip(lm, ctx) is None
        task.score(sae, task.prepare(lm, ctx), lm, ctx)
    assert {f"{task.name}: {title}" for title in titles} <= set(seen.passes)
    for title, (total, numbers) in seen.passes.items():
        assert numbers and numbers == sorted(numbers) and numbers[-1] <= total, title
        # What is done early, such as prompts that are settled, may end a pass before its last unit.
        assert numbers[-1] > 0 or total == 1, title


def test_replies_show_progress(lm: LanguageModel) -> None:
    done: list[int] = []
    lm.generate(["the cat"] * 5, max_new_tokens=2, batch_size=2, done=done.append)
    assert done == [2, 4, 5]


def test_a_pass_that_fails_closes_its_bar() -> None:
    with pytest.raises(ValueError), pass_of(Silent(), "reading", 2, "texts") as steps:
        steps.advance_to(1)
        raise ValueError
