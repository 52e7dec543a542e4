"""Training in lockstep: independent SAEs, exact resuming, honest failure, sae-lens's own mathematics."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import abench
from abench.config import DataSpec, TrainingSpec
from abench.data.activations import ActivationStream, InputStatistics
from abench.data.token_rows import Position, TokenRows
from abench.errors import UserError
from abench.lm.models import LanguageModel
from abench.lm.tokens import ordinary
from abench.storage.bundle import Bundle
from abench.storage.folder import FolderBackend
from abench.tinyworld import MODEL_DIR
from abench.training.checkpoint import StreamState, load_checkpoint, save_checkpoint
from abench.training.library import rebatch
from abench.training.trainer import Diverged, SAETrainer, learning_rate_factor, run_lockstep
from abench.variants import SAEShape, TopK, get_variant, registry, variant_names

TINY_DATA = DataSpec(source="tinyworld", dataset=None)
SITE = "blocks.2.hook_resid_post"
SPEC = TrainingSpec(
    tokens=64 * 30,
    batch_size=64,
    learning_rate=1e-3,
    warmup_fraction=0.1,
    decay_fraction=0.3,
    dead_after_tokens=64 * 5,
    buffer_tokens=64 * 7,
    calibration_tokens=256,
)
SHAPE = SAEShape(d_in=16, width=64, k=4)


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def batches(seed: int = 0, n: int = 30, size: int = 64) -> Iterator[Tensor]:
    """Sparse combinations of a fixed dictionary, [size, 16] each."""
    generator = torch.Generator().manual_seed(seed)
    dictionary = torch.randn(40, 16, generator=torch.Generator().manual_seed(99))
    for _ in range(n):
        codes = torch.rand(size, 40, generator=generator) * (torch.rand(size, 40, generator=generator) < 0.1)
        yield codes @ dictionary


def run(trainers: list[SAETrainer], start: int = 0, stop: int = 30) -> list[SAETrainer]:
    source = list(batches())[start:stop]
    with_end = iter(source)
    try:
        run_lockstep(trainers, with_end, start=start, on_step=lambda _: None, on_diverged=lambda *_: None)
    except UserError:
        assert stop < 30
    return trainers


def weights(trainer: SAETrainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.sae.state_dict().items()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize("name", variant_names())
def test_an_sae_does_not_depend_on_its_neighbours(name: str) -> None:
    alone = SAETrainer(get_variant(name, {}), SHAPE, SPEC, seed=3)
    crowd = [SAETrainer(get_variant(n, {}), SHAPE, SPEC, seed=3) for n in variant_names()]
    run([alone])
    run(crowd)
    assert_same(weights(alone), weights(crowd[variant_names().index(name)]))


@pytest.mark.parametrize("name", variant_names())
@pytest.mark.parametrize("unit_decoder", [False, True])
def test_a_checkpoint_continues_bit_for_bit(name: str, unit_decoder: bool, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"unit_decoder": unit_decoder})
    whole, first, second = (SAETrainer(get_variant(name, {}), SHAPE, spec, seed=0) for _ in range(3))
    run([whole])
    run([first], stop=17)
    state = StreamState(Position(5, 3), InputStatistics(scale=0.5, norm_limit=None))
    place = Bundle(FolderBackend(tmp_path), "checkpoint")
    save_checkpoint(first, state, place)
    assert load_checkpoint(second, place, print) == state
    assert second.step == 17
    run([second], start=17)
    assert_same(weights(whole), weights(second))
    assert [replace(p, seconds=0) for p in whole.curve] == [replace(p, seconds=0) for p in second.curve]
    if unit_decoder:
        torch.testing.assert_close(whole.sae.W_dec.norm(dim=-1), torch.ones(64))


def test_a_trainer_that_is_further_on_waits_for_the_stream(tmp_path: Path) -> None:
    late, early, reference = (SAETrainer(get_variant("abstopk", {}), SHAPE, SPEC, seed=0) for _ in range(3))
    run([late], stop=20)
    run([early], stop=10)
    run([late, early], start=10)
    run([reference])
    assert_same(weights(reference), weights(late))
    assert_same(weights(reference), weights(early))


def test_checkpoint_replaced_while_a_crash_lost_the_new_one(tmp_path: Path) -> None:
    trainer, other = (SAETrainer(get_variant("topk", {}), SHAPE, SPEC, seed=0) for _ in range(2))
    state = StreamState(Position(0, 0), InputStatistics(1.0, None))
    run([trainer], stop=5)
    place = Bundle(FolderBackend(tmp_path), "c")
    save_checkpoint(trainer, state, place)
    # A crash between the two renames leaves only the checkpoint before, under its other name.
    (tmp_path / "c").rename(tmp_path / ".c.before")
    assert load_checkpoint(other, place, print) == state
    assert other.step == 5


@pytest.mark.parametrize("name", ["topk", "abstopk", "batchtopk", "relu", "jumprelu", "gated"])
def test_the_step_is_sae_lens_s_own(name: str) -> None:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer as Theirs

    # A fixed penalty and no dead latents, so that both trainers use the same loss.
    options = {"coefficient": 0.1} if name in {"relu", "jumprelu", "gated"} else {}
    variant = get_variant(name, options)
    spec = TrainingSpec(
        tokens=64 * 30, batch_size=64, learning_rate=1e-3, dead_after_tokens=10**9, buffer_tokens=64
    )
    ours = SAETrainer(variant, SHAPE, spec, seed=0)
    run([ours])
    theirs = variant.build(SHAPE, 0)
    config = SAETrainerConfig(
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
        total_training_samples=64 * 30,
        device="cpu",
        autocast=False,
        lr=1e-3,
        lr_end=1e-3,
        lr_scheduler_name="constant",
        lr_warm_up_steps=0,
        adam_beta1=0.9,
        adam_beta2=0.99,
        lr_decay_steps=0,
        n_restart_cycles=1,
        train_batch_size_samples=64,
        dead_feature_window=10**9,
        feature_sampling_window=10**9,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = Theirs(cfg=config, sae=theirs, data_provider=batches())
    for batch in batches():
        trainer.step(batch)
    for parameter, value in theirs.state_dict().items():
        # Thirty steps amplify the rounding of gradients that are summed in another order.
        torch.testing.assert_close(ours.sae.state_dict()[parameter], value, rtol=1e-3, atol=1e-5)


def test_learning_rate_rises_stays_and_falls() -> None:
    spec = TrainingSpec(tokens=1000, batch_size=10, buffer_tokens=10, warmup_fraction=0.1, decay_fraction=0.2)
    factors = [learning_rate_factor(step, spec) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:80] == [1.0] * 71
    assert factors[99] == pytest.approx(0.05)
    assert factors == sorted(factors[:10]) + factors[10:80] + sorted(factors[80:], reverse=True)


def test_dead_latents_are_those_that_have_not_fired_for_long() -> None:
    trainer = SAETrainer(get_variant("topk", {}), SHAPE, SPEC, seed=0)
    trainer.sae.b_enc.data[:10] = -1e6
    run([trainer], stop=5)
    assert int(trainer.dead().sum()) == 0
    run([trainer], start=5, stop=7)
    dead = trainer.dead()
    assert bool(dead[:10].all())
    assert trainer.curve[-1].dead == int(dead.sum())


def test_a_loss_that_is_not_finite_stops_that_sae_only() -> None:
    good, bad = (
        SAETrainer(get_variant("topk", {}), SHAPE, SPEC, seed=0, label=label) for label in ("good", "bad")
    )
    bad.sae.W_dec.data[0, 0] = float("nan")
    lost: list[tuple[str, str]] = []
    run_lockstep(
        [good, bad],
        batches(),
        start=0,
        on_step=lambda _: None,
        on_diverged=lambda t, e: lost.append((t.label, str(e))),
    )
    assert good.step == 30
    assert lost == [("bad", "the training loss became nan at step 1")]


@pytest.mark.parametrize("variant", ["topk", "abstopk", "relu", "jumprelu"])
def test_bfloat16_keeps_float32_weights_and_learns_nearly_the_same(variant: str) -> None:
    options = {"coefficient": 1e-3} if variant in {"relu", "jumprelu"} else {}
    exact, low = (
        SAETrainer(
            get_variant(variant, options), SHAPE, SPEC.model_copy(update={"precision": precision}), seed=0
        )
        for precision in ("float32", "bfloat16")
    )
    run([exact, low])
    moments = [value for state in low.optimiser.state.values() for value in state.values()]
    assert {p.dtype for p in [*low.sae.parameters(), *moments]} == {torch.float32}
    start, end, end_low = exact.curve[0].mse, exact.curve[-1].mse, low.curve[-1].mse
    assert end < 0.9 * start
    assert end_low == pytest.approx(end, rel=0.05)
    assert end_low != end


class _Spoilt:
    """A source of activations, one of which is not what it should be."""

    d_model, device = 16, torch.device("cpu")

    def __init__(self, bad: Tensor) -> None:
        self._bad = bad

    def reader(self, seed: int, at: Position) -> "_Spoilt":
        self._chunks = iter([torch.ones(64, 16), self._bad, torch.ones(64, 16)])
        self.position = at
        return self

    def read(self) -> Tensor | None:
        self.position = Position(self.position.document + 1)
        return next(self._chunks, None)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (torch.full((64, 16), torch.nan), "before document 2 of the training texts, are not finite"),
        (torch.full((64, 16), torch.inf), "are not finite"),
        (torch.ones(64, 8), r"have shape \[64, 8\], not \[tokens, 16\]"),
        (torch.ones(0, 16), "the text ends after 128 activations, but training needs 1,920, "),
    ],
)
def test_activations_no_sae_can_learn_from_are_refused_with_their_place(bad: Tensor, sentence: str) -> None:
    stream = ActivationStream(_Spoilt(bad), SITE, TINY_DATA, SPEC, context=16)
    with pytest.raises(UserError, match=sentence):
        list(stream.batches())


def test_a_diverging_sae_is_stopped() -> None:
    spec = SPEC.model_copy(
        update={"learning_rate": 1e3, "gradient_clip": None, "tokens": 64 * 300, "warmup_fraction": 0.0}
    )
    trainer = SAETrainer(get_variant("relu", {"coefficient": 0.0}), SHAPE, spec, seed=0)
    lost: list[Diverged] = []
    run_lockstep(
        [trainer], batches(n=300), start=0, on_step=lambda _: None, on_diverged=lambda _, e: lost.append(e)
    )
    assert len(lost) == 1
    assert trainer.step < 300


# The stream


def test_a_row_is_packed_documents_and_restarts_anywhere(tiny: LanguageModel) -> None:
    rows = TokenRows(tiny, TINY_DATA, "train", 32)
    first = rows.batch(7)
    position = rows.position
    rest = rows.batch(9)
    again = TokenRows(tiny, TINY_DATA, "train", 32, at=position)
    assert torch.equal(again.batch(9), rest)
    assert bool((first[:, 0] == tiny.bos_id).all())
    text = tiny.tokenizer.decode(first[0])
    assert text.count("<bos>") == 1 + text.count("<eos> <bos>")


def test_train_and_held_out_rows_differ(tiny: LanguageModel) -> None:
    train, test = (TokenRows(tiny, TINY_DATA, part, 32).batch(50) for part in ("train", "held_out"))
    assert not {tuple(r) for r in train.tolist()} & {tuple(r) for r in test.tolist()}


def test_special_tokens_are_not_ordinary(tiny: LanguageModel) -> None:
    tokens = TokenRows(tiny, TINY_DATA, "train", 32).batch(4)
    eos = tiny.tokenizer.eos_token_id
    assert torch.equal(ordinary(tokens, tiny), (tokens != tiny.bos_id) & (tokens != eos))


def stream_of(lm: LanguageModel, **changes: object) -> ActivationStream:
    spec = SPEC.model_copy(update=changes)
    return ActivationStream(lm, SITE, TINY_DATA, spec, context=32, rows_per_forward=4)


def take(stream: Iterator[Tensor], n: int) -> list[Tensor]:
    return [next(stream).clone() for _ in range(n)]


@pytest.mark.parametrize("start", [0, 3, 6, 7, 8, 14, 20])
def test_a_stream_restarts_at_any_batch_bit_for_bit(tiny: LanguageModel, start: int) -> None:
    whole = stream_of(tiny)
    running = whole.batches()
    take(running, start or 1)
    where = whole.start_of(start)
    expected = take(stream_of(tiny).batches(), start + 3)[start:]
    again = stream_of(tiny)
    again.statistics = whole.statistics
    for left, right in zip(take(again.batches(start, block_start=where), 3), expected, strict=True):
        assert torch.equal(left, right)


def test_blocks_are_shuffled_each_in_its_own_way_and_lose_nothing(tiny: LanguageModel) -> None:
    block = torch.cat(take(stream_of(tiny).batches(), 7))
    tokens = TokenRows(tiny, TINY_DATA, "train", 32).batch(4 * 5)
    inputs = [tiny.residual(t, SITE)[ordinary(t, tiny)] for t in tokens.split(4)]
    statistics = stream_of(tiny).measure()
    unshuffled = torch.cat(inputs)[: len(block)] * statistics.scale
    assert not torch.equal(block, unshuffled)
    order = [sorted(map(tuple, rows.tolist())) for rows in (block, unshuffled)]
    assert order[0] == order[1]


def test_scale_brings_the_mean_norm_to_the_root_of_the_width(tiny: LanguageModel) -> None:
    block = torch.cat(take(stream_of(tiny).batches(), 7))
    assert float(block.norm(dim=-1).mean()) == pytest.approx(tiny.d_model**0.5, rel=0.05)


def test_outlying_norms_are_left_out(tiny: LanguageModel) -> None:
    every = torch.cat(take(stream_of(tiny, outlier_norm=None).batches(), 7)).norm(dim=-1)
    limited = stream_of(tiny, outlier_norm=1.2, normalisation="none")
    kept = torch.cat(take(limited.batches(), 7)).norm(dim=-1)
    assert limited.statistics is not None
    assert limited.statistics.norm_limit is not None
    assert float(kept.max()) <= limited.statistics.norm_limit
    assert float(every.max() / every.median()) > 1.2


def test_layer_norm_is_what_sae_lens_does(tiny: LanguageModel) -> None:
    raw = take(stream_of(tiny, normalisation="none").batches(), 1)[0]
    ours = take(stream_of(tiny, normalisation="layer_norm").batches(), 1)[0]
    config = get_variant("topk", {}).training_config(SAEShape(tiny.d_model, 300, 4))
    config.normalize_activations = "layer_norm"
    theirs = get_variant("topk", {}).build(SAEShape(tiny.d_model, 300, 4), 0).__class__(config)
    torch.testing.assert_close(ours, theirs.run_time_activation_norm_fn_in(raw))


def test_text_that_ends_too_early_is_a_sentence(tiny: LanguageModel, tmp_path: Path) -> None:
    file = tmp_path / "short.txt"
    file.write_text("a doctor called anna lives by the river.\n" * 50)
    data = DataSpec(source="file", dataset=str(file), held_out_documents=10)
    stream = ActivationStream(tiny, SITE, data, SPEC, context=32, rows_per_forward=4)
    with pytest.raises(
        UserError, match=r"the text ends after [\d,]+ activations, but training needs 1,920, for"
    ):
        list(stream.batches())


# The library


def test_train_as_a_library_gives_sae_lens_saes_that_reconstruct() -> None:
    source = list(batches(n=400, size=100))
    results = abench.train(
        source,
        variants=["abstopk", "batchtopk"],
        k=[4],
        width=64,
        steps=150,
        batch_size=256,
        learning_rate=3e-3,
    )
    assert [(r.variant, r.k, r.failure) for r in results] == [("abstopk", 4, None), ("batchtopk", 4, None)]
    held_out = next(batches(seed=1, size=1000))
    for result in results:
        codes = result.sae.encode(held_out)
        nmse = float((result.sae.decode(codes) - held_out).square().sum() / held_out.square().sum())
        assert nmse < 0.25
        assert float((codes != 0).sum(-1).float().mean()) == pytest.approx(4, rel=0.1)
        assert result.curve[-1].step == 150


def test_train_is_deterministic_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    twice = [
        abench.train(batches(), variants=["topk"], k=[4], width=64, steps=7, batch_size=256)[0].sae.W_dec
        for _ in range(2)
    ]
    assert torch.equal(*twice)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("activations", "sentence"),
    [
        (
            [torch.ones(300, 16), torch.full((300, 16), float("nan"))],
            r"activations\[1\] has values that are not finite",
        ),
        (
            [torch.ones(300, 16), torch.zeros(300, 17)],
            r"activations\[1\] has width 17, earlier ones have 16",
        ),
        ([torch.zeros(300, 16, dtype=torch.int64)], r"activations\[0\] must be a floating-point tensor"),
        ([torch.zeros(16)], r"activations\[0\] must be a floating-point tensor"),
        ([torch.ones(300, 16)], "activations ended after 1 batches; training needs 9"),
        ([torch.ones(30, 16)], "fewer activations than one batch"),
        ([torch.zeros(300, 16)], "zero everywhere"),
        ([torch.ones(9 * 256, 16)], "the activations are all the same"),
        ([1e20 * torch.eye(300, 16)], r"activations\[0\] has vectors whose norm overflows float32"),
        ([torch.eye(300, 16), 1e20 * torch.eye(300, 16)], r"activations\[1\] has vectors whose norm"),
        ([1e200 * torch.eye(300, 16).double()], r"activations\[0\] has vectors whose norm"),
        (torch.eye(300, 16)[0], r"activations\[0\] must be a floating-point tensor"),
        (None, "must be a tensor .* or an iterable of such tensors, not NoneType"),
    ],
)
def test_bad_activations_are_a_sentence(activations: list[Tensor], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        abench.train(activations, variants=["topk"], k=[4], width=64, steps=9, batch_size=256)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"k": [64]}, "k = 64 must be at least 1 and smaller than the width"),
        ({"variants": ["topkk"]}, "did you mean 'topk'"),
        ({"learning_rat": 1e-3}, "unknown key 'learning_rat'; did you mean 'learning_rate'"),
        ({"seed": -1}, r"train\(\): seed must be a whole number of at least 0 \(got -1\)"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"steps": True}, "steps must be a whole number"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"width": -3}, "width must be a whole number of at least 2"),
        ({"tokens": 4096 * 20}, "tokens cannot be set because it is steps × batch_size"),
        ({"buffer_tokens": 4096}, "buffer_tokens cannot be set because train\\(\\) does not shuffle"),
        ({"variants": "topk"}, "variants must be a list of at least one value"),
        ({"variants": []}, "variants must be a list"),
        ({"k": 4}, "k must be a list"),
        ({"options": {"relu": {}}}, "options has 'relu', which is not one of the variants"),
        ({"device": "cudda"}, "the device 'cudda' cannot be used"),
        ({"device": "meta"}, "the device 'meta' cannot be used"),
    ],
)
def test_bad_options_of_train_are_a_sentence(options: dict[str, object], sentence: str) -> None:
    arguments = {"variants": ["topk"], "k": [4], "width": 64, "steps": 2, "batch_size": 64} | options
    with pytest.raises(UserError, match=sentence):
        abench.train([torch.ones(300, 16)], **arguments)  # type: ignore[arg-type]


def test_unlike_any_keyword_those_that_can_be_given_are_listed() -> None:
    with pytest.raises(UserError, match="unknown key 'zzz'; known: ") as caught:
        train_one(zzz=1)
    listed = str(caught.value).partition("known: ")[2].split(", ")
    assert {"activations", "steps", "k", "learning_rate", "outlier_norm"} <= set(listed)
    assert not {"tokens", "buffer_tokens"} & set(listed)


def train_one(variant: str = "topk", **options: Any) -> abench.TrainedSAE:
    arguments: dict[str, Any] = {"k": [4], "width": 64, "steps": 20, "batch_size": 64} | options
    source = [batch * (1 + 9 * (torch.arange(64) % 16 == 0))[:, None] for batch in batches()]
    (result,) = abench.train(source, variants=[variant], **arguments)
    return result


@pytest.mark.parametrize("name", TrainingSpec.model_fields)
def test_every_keyword_is_honoured_or_refused(name: str) -> None:
    other: dict[str, Any] = {
        "batch_size": 32,
        "learning_rate": 1e-2,
        "betas": (0.5, 0.9),
        "warmup_fraction": 0.5,
        "decay_fraction": 0.5,
        "gradient_clip": 1e-3,
        "normalisation": "layer_norm",
        "precision": "bfloat16",
        "unit_decoder": True,
        "dead_after_tokens": 64,
        "outlier_norm": 2.0,
        "calibration_tokens": 64,
        "seed": 1,
        "tokens": 64,
        "buffer_tokens": 64,
    }
    if name in ("tokens", "buffer_tokens"):
        with pytest.raises(UserError, match=f"{name} cannot be set"):
            train_one(**{name: other[name]})
        return
    before, after = (train_one("batchtopk", **more).sae.state_dict() for more in ({}, {name: other[name]}))
    assert any(not torch.equal(before[key], after[key]) for key in before if key in after) or set(
        before
    ) != set(after)


def test_outliers_are_left_out_as_by_hand() -> None:
    rows = torch.cat(list(batches(n=40)))
    rows[::16] *= 10
    norms = rows[:64].norm(dim=-1)
    limit = float(norms.median()) * 3
    kept = rows[rows.norm(dim=-1) <= limit]
    arguments: dict[str, Any] = {"variants": ["topk"], "k": [4], "width": 64, "steps": 20, "batch_size": 64}
    arguments["normalisation"] = "none"
    left, right = (
        abench.train([x], **arguments, **o)[0] for x, o in ((rows, {"outlier_norm": 3}), (kept, {}))
    )
    assert torch.equal(left.sae.W_dec, right.sae.W_dec)


class _Overflows(TopK):
    """Ends with a decoder that no float32 holds."""

    name = "overflows"

    def calibrate(self, sae: Any, activations: Tensor, k: int) -> None:
        sae.W_dec.data.mul_(3e38).mul_(3e38)


@pytest.mark.parametrize("normalisation", ["scale", "none"])
def test_an_sae_that_is_not_finite_is_a_failure(normalisation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._variants, "overflows", _Overflows)
    result = train_one("overflows", steps=1, normalisation=normalisation)
    assert result.sae is None
    assert result.failure is not None
    assert "not finite" in result.failure


def test_rebatching_keeps_order_and_drops_only_the_rest() -> None:
    rows = torch.arange(100.0)[:, None]
    cut = list(rebatch([rows[:7], rows[7:7], rows[7:61], rows[61:]], 16))
    assert torch.equal(torch.cat(cut), rows[:96])
    assert {len(batch) for batch in cut} == {16}
