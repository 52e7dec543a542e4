"""Texts that end: they are used to their end, also after a restart, and can be read again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Abench
from torch import Tensor

from abench.config import DataSpec, TrainingSpec
from abench.data.activations import ActivationStream
from abench.data.texts import texts
from abench.data.token_rows import Position, TokenRows
from abench.errors import UserError
from abench.lm.models import LanguageModel
from abench.lm.tokens import ordinary
from abench.tinyworld import MODEL_DIR, World

SITE = "blocks.2.hook_resid_post"
BATCH, BLOCK, STEPS = 4, 3, 5
SPEC = TrainingSpec(
    tokens=BATCH * STEPS + 1,
    batch_size=BATCH,
    buffer_tokens=BATCH * BLOCK,
    normalisation="none",
    outlier_norm=None,
)
ENOUGH = BATCH * STEPS


class Finite:
    """A source of numbered activations, which come in chunks of five and end."""

    d_model, device = 2, torch.device("cpu")

    def __init__(self, count: int) -> None:
        self._all = torch.arange(2.0 * count).reshape(count, 2)

    def reader(self, seed: int, at: Position) -> "Finite":
        again = Finite(len(self._all))
        again.position = at
        return again

    position = Position()

    def read(self) -> Tensor | None:
        chunk = self._all[self.position.document : self.position.document + 5]
        self.position = Position(self.position.document + 5)
        return chunk if len(chunk) else None


def stream_of(count: int, **changes: Any) -> ActivationStream:
    spec = SPEC.model_copy(update=changes)
    return ActivationStream(Finite(count), SITE, DataSpec(), spec, context=16)


def usable(count: int) -> int:
    """Activations that blocks of 12 take from chunks of 5: full ones drop what their last chunk has over."""
    full, rest = divmod(count, 15)
    return full * 12 + min(rest, 12)


@pytest.mark.parametrize("count", range(60))
def test_a_text_of_any_length_is_used_to_its_end(count: int) -> None:
    if usable(count) < ENOUGH:
        sentence = f"ends after {usable(count)} activations" if count else "no text to train on"
        with pytest.raises(UserError, match=sentence):
            list(stream_of(count).batches())
        return
    found = list(stream_of(count).batches())
    again = found[-(-usable(count) // BATCH) :]
    own = found[: len(found) - len(again)]
    assert {len(batch) for batch in own[:STEPS]} == {BATCH}
    assert sum(map(len, own)) == usable(count)
    assert len({tuple(row) for row in torch.cat(own).tolist()}) == usable(count)
    # The first block comes again, for calibration.
    assert torch.equal(torch.cat(again), torch.cat(found[:BLOCK]))


def test_full_blocks_are_those_of_a_longer_text() -> None:
    longer = list(stream_of(600).batches())
    for count in range(25, 60):
        found = list(stream_of(count).batches())
        for left, right in zip(found[: BLOCK * (count // 15)], longer, strict=False):
            assert torch.equal(left, right)


@pytest.mark.parametrize("count", [25, 26, 27, 30, 31, 33, 45])
@pytest.mark.parametrize("start", range(STEPS + 1))
def test_a_finite_text_restarts_at_every_step(count: int, start: int) -> None:
    whole = stream_of(count)
    running = whole.batches()
    first = [next(running).clone() for _ in range(max(start, 1))]
    # A checkpoint after step `start` holds this, as long as training goes on.
    where = whole.start_of(start)
    expected = [*first, *running][start:]
    restarted = stream_of(count)
    restarted.statistics = whole.statistics
    found = list(restarted.batches(start, block_start=where))
    assert len(found) == len(expected)
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))


def test_fewer_activations_than_are_measured_and_than_a_buffer() -> None:
    stream = stream_of(40, buffer_tokens=100_000, normalisation="scale")
    found = list(stream.batches())
    assert stream.statistics is not None and stream.batches_per_block == 25_000
    assert sorted(map(tuple, torch.cat(found[:10]).tolist())) == sorted(
        map(tuple, (stream.normalise(torch.arange(80.0).reshape(40, 2))).tolist())
    )


# Read again


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def corpus(folder: Path, documents: int, held_out: int = 3, **more: Any) -> DataSpec:
    file = folder / "texts.jsonl"
    stream = World().texts("train")
    file.write_text("".join(json.dumps({"text": next(stream)}) + "\n" for _ in range(documents)))
    return DataSpec(source="file", dataset=str(file), held_out_documents=held_out, **more)


@pytest.mark.parametrize("documents", [12, 1030, 2500])
@pytest.mark.parametrize("start", [0, 1, 1023, 1024, 1500])
def test_an_epoch_has_every_document_once_in_an_order_of_its_own(
    tmp_path: Path, documents: int, start: int
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"{number}\n" for number in range(documents)))
    data = DataSpec(source="file", dataset=str(file), held_out_documents=2)
    epochs = [list(texts(data, "train", seed=1, epoch=epoch)) for epoch in range(3)]
    assert epochs[0] == [str(number) for number in range(2, documents)]
    assert len({tuple(order) for order in epochs}) == 3
    assert {tuple(sorted(order)) for order in epochs} == {tuple(sorted(epochs[0]))}
    assert list(texts(data, "train", seed=2, epoch=1)) != epochs[1]
    for epoch, order in enumerate(epochs):
        assert list(texts(data, "train", seed=1, epoch=epoch, start=start)) == order[start:]


def rows_of(
    lm: LanguageModel, data: DataSpec, at: Position | None = None
) -> Iterator[tuple[Position, Tensor]]:
    rows = TokenRows(lm, data, "train", 16, at=at)
    while len(batch := rows.batch(1)):
        yield rows.position, batch


def test_rows_go_on_into_the_next_epoch_and_restart_anywhere(tiny: LanguageModel, tmp_path: Path) -> None:
    data = corpus(tmp_path, 9, epochs=3)
    once = list(rows_of(tiny, data.model_copy(update={"epochs": 1})))
    whole = list(rows_of(tiny, data))
    assert all(torch.equal(left, right) for (_, left), (_, right) in zip(once, whole, strict=False))
    assert len(whole) >= 3 * len(once)
    assert {position.epoch for position, _ in whole} >= {0, 1, 2}
    for number, (position, _) in enumerate(whole):
        rest = [row for _, row in rows_of(tiny, data, position)]
        assert len(rest) == len(whole) - number - 1
        assert all(
            torch.equal(left, right) for left, (_, right) in zip(rest, whole[number + 1 :], strict=True)
        )


def test_empty_documents_do_not_shift_a_restart(model_folder: Any, tmp_path: Path) -> None:
    # This tokenizer adds nothing to a document, so that an empty one has no tokens at all.
    lm = LanguageModel.load(model_folder("qwen3-4b"), name="q")
    file = tmp_path / "texts.jsonl"
    stream = World().texts("train")
    lines = [next(stream) if number % 3 else "" for number in range(30)]
    file.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    data = DataSpec(source="file", dataset=str(file), held_out_documents=1, epochs=2)
    whole = list(rows_of(lm, data))
    for number, (position, _) in enumerate(whole):
        rest = torch.cat(
            [torch.zeros(0, 16, dtype=torch.int64), *(row for _, row in rows_of(lm, data, position))]
        )
        assert torch.equal(
            rest, torch.cat([torch.zeros(0, 16, dtype=torch.int64), *(r for _, r in whole[number + 1 :])])
        )


def test_held_out_documents_are_read_once(tiny: LanguageModel, tmp_path: Path) -> None:
    data = corpus(tmp_path, 9, held_out=6)
    once = TokenRows(tiny, data, "held_out", 16).batch(999)
    again = TokenRows(tiny, data.model_copy(update={"epochs": 5}), "held_out", 16).batch(999)
    assert torch.equal(once, again) and 0 < len(once) < 20


def test_the_epochs_that_the_sentence_names_are_enough(tiny: LanguageModel, tmp_path: Path) -> None:
    data = corpus(tmp_path, 40)
    for tokens in (1_500, 3_000):
        training = TrainingSpec(tokens=tokens, batch_size=64, buffer_tokens=640)

        def read(data: DataSpec, training: TrainingSpec = training) -> int:
            stream = ActivationStream(tiny, SITE, data, training, context=16, rows_per_forward=8)
            return len([batch for batch, _ in zip(stream.batches(), range(training.steps), strict=False)])

        with pytest.raises(UserError, match=r"ends after [\d,]+ activations, but training needs") as raised:
            read(data)
        epochs = int(str(raised.value).split("data.epochs=")[1].split(",")[0])
        assert f"would have to be read {epochs} times" in str(raised.value)
        assert read(data.model_copy(update={"epochs": epochs})) == training.steps
        with pytest.raises(UserError, match="ends after"):
            read(data.model_copy(update={"epochs": max(1, epochs - 2)}))


def test_all_documents_held_out_is_a_sentence(tiny: LanguageModel, tmp_path: Path) -> None:
    data = corpus(tmp_path, 9, held_out=9)
    stream = ActivationStream(tiny, SITE, data, SPEC, context=16)
    with pytest.raises(
        UserError, match="no text to train on: the first 9 documents are held out for evaluation"
    ):
        next(stream.batches())


def test_one_epoch_leaves_keys_as_they_were() -> None:
    assert "epochs" not in DataSpec().model_dump(mode="json")
    assert "epochs" not in json.loads(DataSpec(epochs=1).model_dump_json())
    twice = DataSpec(epochs=2)
    assert twice.model_dump(mode="json")["epochs"] == 2
    assert DataSpec(**twice.model_dump()) == twice and DataSpec(**DataSpec().model_dump()) == DataSpec()


# Whole runs


def run(abench: Abench, folder: Path, data: DataSpec, variants: str, tokens: int, *more: str) -> Any:
    settings = [
        "data.source=file",
        f"data.dataset={data.dataset}",
        f"data.held_out_documents={data.held_out_documents}",
    ]
    settings += ["training.batch_size=256", "evaluation.tokens=512", "context=32", *more]
    sizes = ("--variants", variants, "--width", "64", "--k", "4", "--limit", "4", "--tokens", str(tokens))
    return abench("run", *sizes, *(f"--set={each}" for each in settings), "--results", folder / "results")


def activations_in(tiny: LanguageModel, data: DataSpec) -> int:
    tokens = TokenRows(tiny, data, "train", 32).batch(10_000)
    return int(ordinary(tokens, tiny).sum())


def test_a_text_smaller_than_the_buffer_trains_and_calibrates(
    abench: Abench, tiny: LanguageModel, tmp_path: Path
) -> None:
    data = corpus(tmp_path, 100)
    steps = activations_in(tiny, data) // 256
    # Both are saved: the one that needs no calibration, and the one that gets it from what was read.
    result = run(abench, tmp_path, data, "topk,batchtopk", 256 * steps, "training.outlier_norm=null")
    assert result.code == 0, result.err
    marks = list((tmp_path / "results" / "saes").rglob("sae_weights.safetensors"))
    assert len(marks) == 2
    short = run(abench, tmp_path, data, "topk", 256 * (steps + 4), "training.outlier_norm=null")
    assert short.code == 2 and "would have to be read 2 times: add --set data.epochs=2" in short.err
    more = run(
        abench, tmp_path, data, "topk", 256 * (steps + 4), "training.outlier_norm=null", "data.epochs=2"
    )
    assert more.code == 0, more.err
