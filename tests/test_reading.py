"""Reading activations: nothing twice, no more than needed, and with a sign of life."""

import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from command import SMALL, Abench
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from abench.config import DataSpec, TrainingSpec
from abench.data.activations import ActivationStream
from abench.data.token_rows import Position
from abench.progress import Lines
from abench.runs.pace import Pace

CHUNK = 512


@dataclass
class Counting:
    """A source of random activations that counts what is read from it."""

    read_so_far: int = 0
    position: Position = field(default_factory=Position)
    d_model = 3
    device = torch.device("cpu")

    def reader(self, seed: int, at: Position) -> "Counting":
        del seed
        self.position = at
        return self

    def read(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.position.document)
        self.position = Position(self.position.document + 1)
        self.read_so_far += CHUNK
        return torch.randn(CHUNK, self.d_model, generator=generator)


def test_the_statistics_cost_no_second_reading() -> None:
    spec = TrainingSpec(tokens=40_960, batch_size=1024, buffer_tokens=20_480)
    source = Counting()
    stream = ActivationStream(source, "", DataSpec(), spec, context=16)
    batches = stream.batches()
    first = next(batches)
    assert source.read_so_far == 20_480
    # The same activations as for one who starts with known statistics.
    again = ActivationStream(Counting(), "", DataSpec(), spec, context=16)
    again.statistics = stream.statistics
    other = again.batches()
    assert torch.equal(first, next(other))
    for _ in range(39):
        assert torch.equal(next(batches), next(other))
    assert source.read_so_far == 40_960


def test_reading_reports_its_progress() -> None:
    seen: list[tuple[int, list[int]]] = []

    @contextmanager
    def watched(size: int) -> Iterator[Callable[[int], None]]:
        seen.append((size, []))
        yield seen[-1][1].append

    spec = TrainingSpec(tokens=4096, batch_size=512, buffer_tokens=2048)
    stream = ActivationStream(Counting(), "", DataSpec(), spec, context=16, watched=watched)
    batches = stream.batches()
    for _ in range(spec.steps):
        next(batches)
    quarter = [512, 1024, 1536, 2048]
    assert seen == [(2048, quarter)] * 3  # the statistics, and two buffers


@given(st.integers(1, 10**6), st.integers(1, 5000), st.integers(1, 10**6))
def test_a_buffer_is_filled_a_whole_number_of_times(tokens: int, batch: int, buffer: int) -> None:
    tokens, buffer = max(tokens, batch), max(buffer, batch)
    spec = TrainingSpec(tokens=tokens, batch_size=batch, buffer_tokens=buffer)
    fitted = spec.in_whole_buffers()
    assert batch <= fitted.buffer_tokens <= buffer
    assert fitted.steps == spec.steps
    per_buffer = fitted.buffer_tokens // batch
    times = -(-spec.steps // per_buffer)
    unused = times * per_buffer - spec.steps
    # Whole batches cannot always divide the steps, but less than one batch per buffer is left over.
    assert unused <= 0.05 * spec.steps or unused < times
    assert fitted.in_whole_buffers() == fitted or unused < times


def test_few_tokens_are_read_from_a_small_buffer() -> None:
    spec = TrainingSpec(tokens=60_000, batch_size=2048)
    assert spec.in_whole_buffers().buffer_tokens == 29 * 2048
    assert TrainingSpec(tokens=140_000, batch_size=2048).in_whole_buffers().buffer_tokens == 34 * 2048


def test_the_default_run_keeps_its_buffer() -> None:
    spec = TrainingSpec(tokens=2_000_000, batch_size=2048)
    assert spec.in_whole_buffers() == spec


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_is_that_of_reading_and_of_steps() -> None:
    clock = Clock()
    pace = Pace(100, 10, clock)
    pace.start(0)
    clock.now = 400.0
    pace.has_read(500, 400.0)
    assert pace.seconds_left(0) is None
    clock.now += 2
    pace.has_stepped()
    # 500 activations to read, and 99 steps; the first step alone would promise 402 · 99 seconds.
    assert pace.seconds_left(1) == pytest.approx(400 + 99 * 2)


def test_the_time_left_is_not_judged_in_the_first_seconds() -> None:
    clock = Clock()
    pace = Pace(1000, 1, clock)
    pace.start(0)
    clock.now = 3.0
    pace.has_stepped()
    assert pace.seconds_left(1) == math.inf
    assert pace.seconds_left(1000) == 0
    clock.now = 6.0
    pace.has_stepped()
    assert pace.seconds_left(2) == pytest.approx(998 * 3)


def test_the_time_left_follows_the_machine() -> None:
    clock = Clock()
    pace = Pace(1000, 1, clock)
    pace.start(0)
    for step in range(1, 101):
        clock.now += 60 if step == 1 else 1
        pace.has_stepped()
    assert pace.seconds_left(100) == pytest.approx(900, rel=0.01)


def test_lines_show_the_time_left_that_they_are_given() -> None:
    stream = io.StringIO()
    with Lines(stream, every=0).steps("training", 1000) as steps:
        steps.advance_to(1, "mse 3", left=90.0)
    assert stream.getvalue() == "training 1/1,000 · mse 3 · 1 min 30 s left\n"


def test_a_log_says_that_activations_are_read_if_that_takes_long(
    abench: Abench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*SMALL, "--variants", "topk", "--k", "4", "--tokens", "4096", "--results")
    quick = abench("run", *options, tmp_path / "quick")
    assert quick.code == 0, quick.err
    assert "reading" not in quick.err
    # Every line is shown, and no pass is too quick.
    monkeypatch.setattr("abench.progress.for_stderr", lambda: Lines(every=0.0))
    monkeypatch.setattr("abench.passes.SHOWN_AFTER_SECONDS", 0.0)
    slow = abench("run", *options, tmp_path / "slow")
    assert slow.code == 0, slow.err
    lines = [line for line in slow.err.splitlines() if line.startswith("reading activations at blocks.2")]
    assert all(re.search(r" [\d,]+/4,096 · [\d,]+ tokens/s · .* left$", line) for line in lines)
    assert len(lines) > 3
