"""Two-way steering: planted latents, steering one move at a time, the rule of choice, and own concepts."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from abench.tasks.two_way_steering import TwoWaySteering
from abench.tasks.two_way_steering.axes import LEAST_WORDS, AxisOracle, axis_concept, stems
from abench.tasks.two_way_steering.concepts import Sizes
from abench.tasks.two_way_steering.ends import Ends, Limits, ranked
from abench.tasks.two_way_steering.exam import Exam, Outcome
from abench.tasks.two_way_steering.intervals import bootstrap
from abench.tasks.two_way_steering.methods import codes_of, dim, latents, norm_of, pca, probe
from abench.tasks.two_way_steering.movers import Line, OneLatent, Together
from abench.tasks.two_way_steering.search import Search
from paper_cells import cell
from signed import random_sae

from abench import (
    AddDirection,
    ClampLatent,
    Context,
    CostSetting,
    LanguageModel,
    Skip,
    SplitSAE,
    UserError,
    steered,
)
from abench.config import DataSpec, EvaluationSpec
from abench.kept import MemoryKept
from abench.report.build import build_tables
from abench.task import parted
from abench.tinyworld import AXES, MODEL_DIR, World, labels

SITE = "blocks.2.hook_resid_post"
DATA = DataSpec(source="tinyworld", dataset=None)
SIZES = Sizes(24, 6, 10, 8, 8, 100, 100)
SMALL: dict[str, Any] = {
    "concepts": ("gender",),
    "candidates": 3,
    "strengths": (0.25, 0.5),
    "concept_texts": 24,
    "screening_stems": 4,
    "validation_stems": 6,
    "test_stems": 16,
    "new_tokens": 8,
    # What a changed pole costs is spread over few tokens here.
    "max_loss": 0.6,
}


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@pytest.fixture(scope="module")
def kept() -> MemoryKept:
    return MemoryKept()


def context(**changes: Any) -> Context:
    return Context(SITE, EvaluationSpec(), DATA, 128, model={"commit": "tiny"}, **changes)


# The tiny world's axes


def test_the_oracle_counts_the_words_of_either_pole() -> None:
    read = AxisOracle("gender")
    texts = ["she met her father .", "he is a king", "the book is red", "his aunt", "", "Queen"]
    assert read(texts).tolist() == [1, 0, 0.5, 0.5, 0.5, 1]
    for axis in AXES:
        for sign, pole in (("+", 1), ("-", 0)):
            words = [word for word, own in labels().items() if f"{axis}{sign}" in own]
            assert AxisOracle(axis)(words).tolist() == [pole] * len(words)


@pytest.mark.parametrize("axis", ["gender", "size", "tense"])
def test_stems_end_before_a_word_of_the_axis_and_are_new_to_the_model(axis: str) -> None:
    found = stems(axis, 30, seed=0)
    assert len(set(found)) == 30
    starts = {}
    for pair in World().minimal_pairs(axis, 400, 0):
        for number, document in enumerate(pair):
            for cut in range(LEAST_WORDS, len(document.words)):
                starts.setdefault(" ".join(document.words[:cut]), set()).add((number, document.concepts[cut]))
    for stem in found:
        assert len(stem.split()) >= LEAST_WORDS
        assert any(f"{axis}{sign}" in own for _, own in starts[stem] for sign in "+-")
    assert stems(axis, 30, seed=1) != found
    # Where the beginning shows no pole, the stem fits both.
    if axis == "size":
        assert (AxisOracle(axis)(found) == 0.5).all()


def test_texts_and_both_kinds_of_stems_are_disjoint() -> None:
    concept = axis_concept("loudness", SIZES, seed=0)
    assert (len(concept.validation), len(concept.test)) == (6, 10)
    assert not set(concept.validation) & set(concept.test)
    negative, positive = concept.texts
    assert len(negative) == len(positive) == 24
    read = AxisOracle("loudness")
    assert read(negative).mean() < 0.1 and read(positive).mean() > 0.9
    with pytest.raises(UserError, match="the tiny world has no axis 'colour'; it has gender"):
        axis_concept("colour", SIZES, seed=0)


def test_an_axis_without_enough_stems_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abench.tasks.two_way_steering.axes.LEAST_WORDS", 12)
    monkeypatch.setattr("abench.tasks.two_way_steering.axes._PATIENCE", 1)
    with pytest.raises(Skip, match=r"the axis size has \d distinct stems, and 10 are needed"):
        stems("size", 10, seed=0)


# Steering


def test_moves_of_one_batch_are_the_interventions_one_by_one(lm: LanguageModel) -> None:
    """Against AddDirection and ClampLatent, each with a generation of its own."""
    concept = axis_concept("gender", SIZES, seed=0)
    signed, plain = random_sae("abstopk"), random_sae("topk")
    unit = norm_of(lm, concept, SITE)
    line = dim(lm, concept, SITE, 1, 0)[0]
    movers = [
        (line, lambda length: AddDirection(line.direction, length)),
        (OneLatent(signed, 7, -1, "x", True), lambda length: ClampLatent(signed, 7, -length)),
        (OneLatent(plain, 3, 1, "x", False), lambda length: ClampLatent(plain, 3, length)),
        (OneLatent(SplitSAE(signed), 260, 1, "x", False), lambda v: ClampLatent(SplitSAE(signed), 260, v)),
    ]
    moves = [(mover, strength * unit) for mover, _ in movers for strength in (-0.5, 1.0)]
    exam = Exam(lm, SITE, concept.test[:4], 6)
    together = exam.continued(moves)
    alone = []
    for _, intervention in movers:
        for strength in (-0.5, 1.0):
            with steered(lm, SITE, intervention(strength * unit)):
                alone.append([lm.generate([stem], max_new_tokens=6)[0] for stem in exam.stems])
    assert together == alone
    assert len({tuple(replies) for replies in together}) > 4


def test_a_batch_that_memory_does_not_hold_is_generated_move_by_move(lm: LanguageModel) -> None:
    concept = axis_concept("gender", SIZES, seed=0)
    moves = [(dim(lm, concept, SITE, 1, 0)[0], length) for length in (-30.0, 30.0)]
    whole = Exam(lm, SITE, concept.test, 8).continued(moves)
    together = Together(moves, 20)
    x = torch.randn(10, 3, 128)
    with pytest.raises(Exception) as error:
        together(x)
    assert type(error.value).__name__ == "PartedError"
    original = Together.__call__

    def parted_call(self: Any, residual: torch.Tensor) -> torch.Tensor:
        return original(self, residual if self._only else residual[:1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Together, "__call__", parted_call)
        assert Exam(lm, SITE, concept.test, 8).continued(moves) == whole


def test_fluency_is_the_unsteered_models_surprise_at_each_continuation(lm: LanguageModel) -> None:
    concept = axis_concept("size", SIZES, seed=0)
    exam = Exam(lm, SITE, concept.test, 8)
    line, unit = dim(lm, concept, SITE, 1, 0)[0], norm_of(lm, concept, SITE)
    moves = [(line, 0.5 * unit), (line, 2.0 * unit)]
    outcomes = exam.measure(moves, [concept.reader])
    for outcome, replies in zip(outcomes, exam.continued(moves), strict=True):
        for place, (stem, reply) in enumerate(zip(concept.test, replies, strict=True)):
            begun = [lm.bos_id, *lm.token_ids([stem])[0]]
            said = lm.token_ids([reply])[0]
            scores = lm.logits(torch.tensor([begun + said])).float().log_softmax(-1)[0]
            own = [float(scores[len(begun) - 1 + i, token]) for i, token in enumerate(said)]
            assert outcome.nats[place] == pytest.approx(-sum(own), abs=1e-3)
            assert outcome.tokens[place] == len(own)
        assert outcome.poles[0].tolist() == concept.reader(replies).tolist()
    assert outcomes[1].nats_per_token > outcomes[0].nats_per_token + 0.3  # type: ignore[operator]


# The rule of choice


def outcome(share: float, loss: float = 0.0, degenerate: int = 0, stems: int = 10) -> Outcome:
    poles = np.zeros((1, stems))
    poles[0, : round(share * stems)] = 1
    tokens = np.full(stems, 4)
    return Outcome(poles, tokens * (1.0 + loss), tokens, np.arange(stems) < degenerate)


UNSTEERED = outcome(0.5)
LIMITS = Limits(0.3, 0.05)


def chosen(kind: Any, measured: dict[Any, Outcome], one_way: Sequence[Any] = ()) -> Ends:
    return ranked(kind, measured, UNSTEERED, LIMITS, one_way)[0]


def test_each_end_is_chosen_by_itself_and_within_the_limits() -> None:
    measured = {
        (0, 0.25): outcome(0.7),
        (0, 0.5): outcome(0.9, loss=0.29),
        (0, 1.0): outcome(1.0, loss=0.31),  # not fluent
        (0, -0.25): outcome(0.2),
        (0, -0.5): outcome(0.0, degenerate=1),  # loops
        (0, -1.0): outcome(0.4),
    }
    assert chosen("both", measured) == Ends((0, 0.5), (0, -0.25), pytest.approx(0.7))
    # The same the other way round: positive strengths may turn out to lower the share.
    turned = {(0, -strength): each for (_, strength), each in measured.items()}
    assert chosen("both", turned) == Ends((0, -0.5), (0, 0.25), pytest.approx(0.7))


def test_an_end_that_helps_nothing_is_the_unsteered_model() -> None:
    nothing = {(0, 0.5): outcome(0.5), (0, -0.5): outcome(0.6), (1, 0.5): outcome(1.0, loss=2)}
    assert chosen("both", nothing) == Ends((0, -0.5), None, pytest.approx(0.1))
    assert chosen("both", {(0, 0.5): outcome(1.0, loss=2)}) == Ends(None, None, 0.0)
    for kind in ("both", "one", "pair"):
        assert chosen(kind, {}) == Ends(None, None, 0.0)


def test_one_direction_of_a_mover_does_not_serve_both_ends() -> None:
    """A push that raises the share when weak and lowers it when strong is not two-way."""
    measured = {(0, 0.25): outcome(1.0), (0, 0.5): outcome(0.0), (0, -0.5): outcome(0.5)}
    assert chosen("both", measured).range == pytest.approx(0.5)


def test_one_way_and_pairs_use_only_rays_on_which_units_fire() -> None:
    measured = {
        (0, 0.5): outcome(0.8),
        (0, -0.5): outcome(0.0),
        (1, 0.5): outcome(0.3),
        (1, -0.5): outcome(1.0),
    }
    firing = [(0, 1), (1, 1)]
    assert chosen("both", measured).range == pytest.approx(0.8)
    assert chosen("one", measured, firing) == Ends((0, 0.5), None, pytest.approx(0.3))
    assert chosen("pair", measured, firing) == Ends((0, 0.5), (1, 0.5), pytest.approx(0.5))
    assert chosen("pair", measured, [*firing, (0, -1), (1, -1)]) == Ends(
        (1, -0.5), (0, -0.5), pytest.approx(1)
    )
    # Two directions of one mover are no pair.
    alone = {setting: each for setting, each in measured.items() if setting[0] == 0}
    assert chosen("pair", alone, [(0, 1), (0, -1)]).range == pytest.approx(0.5)


def test_choices_equal_those_of_a_search_through_all_pairs() -> None:
    draw = Random(0)
    for _ in range(50):
        measured = {
            (mover, way * strength): outcome(
                draw.randrange(11) / 10, draw.choice([0, 0.1, 0.4]), draw.randrange(2)
            )
            for mover in range(3)
            for way in (1, -1)
            for strength in (0.5, 1.0)
        }
        ends: list[Any] = [None, *(s for s, each in measured.items() if LIMITS.allow(each, UNSTEERED))]
        share = {None: 0.5} | {setting: each.share for setting, each in measured.items()}
        opposite = [
            share[a] - share[b]
            for a in ends
            for b in ends
            if a is None or b is None or (a[0] == b[0] and a[1] * b[1] < 0)
        ]
        others = [share[a] - share[b] for a in ends for b in ends if a is None or b is None or a[0] != b[0]]
        every = [(mover, way) for mover in range(3) for way in (1, -1)]
        assert chosen("both", measured).range == pytest.approx(max(opposite))
        assert chosen("pair", measured, every).range == pytest.approx(max(others))


def test_the_interval_is_that_of_means_over_stems() -> None:
    random = np.random.default_rng(3)
    differences = [random.choice([0.0, 0.5, 1.0], size=40) for _ in range(3)]
    low, high = bootstrap(differences, seed=0)
    mean = np.mean([each.mean() for each in differences])
    error = np.sqrt(sum(each.var() / len(each) for each in differences)) / 3
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.02)
    assert bootstrap([np.ones(5)], seed=0) == (1, 1)


# Planted truth


def planted(direction: torch.Tensor, variant: str, poles: Sequence[int]) -> Any:
    """An SAE whose latents 5 and on read and write the direction in the given senses; others are silent."""
    sae = random_sae(variant, width=64, k=4, seed=3)
    with torch.no_grad():
        sae.W_enc *= 1e-6
        sae.b_enc.zero_()
        sae.b_dec.zero_()
        for place, sense in enumerate(poles, 5):
            sae.W_enc[:, place] = 1e-3 * sense * direction
            sae.W_dec[place] = sense * direction
    return sae


@pytest.fixture(scope="module")
def prepared(lm: LanguageModel, kept: MemoryKept) -> Any:
    with torch.no_grad():
        return TwoWaySteering(**SMALL).prepare(lm, context(kept=kept))


@pytest.fixture(scope="module")
def direction(lm: LanguageModel, prepared: Any) -> torch.Tensor:
    return dim(lm, prepared.searches["gender"].concept, SITE, 1, 0)[0].direction


def scored(lm: LanguageModel, prepared: Any, sae: Any, **options: Any) -> tuple[dict[str, float], Any]:
    task = TwoWaySteering(**{**SMALL, **options})
    with torch.no_grad():
        codes = {name: codes_of(lm, [sae], each.concept, SITE) for name, each in prepared.searches.items()}
        scores, details = parted(task, task.score(sae, replace(prepared, codes=codes), lm, context()))
    return dict(scores), details["two_way"]


@pytest.mark.parametrize("sense", [1, -1])
def test_a_latent_that_is_the_axis_reaches_what_the_direction_reaches(
    lm: LanguageModel, prepared: Any, direction: torch.Tensor, sense: int
) -> None:
    scores, details = scored(lm, prepared, planted(direction, "abstopk", [sense]))
    of_dim = details["methods"]["dim"]["range"][0]
    assert of_dim > 0.7
    assert scores["range"] == pytest.approx(of_dim, abs=0.05)
    assert scores["of_dim"] == pytest.approx(scores["range"] - of_dim)
    ends = details["concepts"]["gender"]["both"]
    assert ends["high"]["latent"] == ends["low"]["latent"] == 5
    assert ends["high"]["strength"] * ends["low"]["strength"] < 0
    # One direction reaches one end only, and there is no second latent.
    unsteered = details["unsteered"]["gender"]
    reach = max(scores["high"] - unsteered, unsteered - scores["low"])
    assert scores["one_way"] == pytest.approx(reach, abs=0.07)
    assert scores["range"] == pytest.approx(ends["high"]["share"] - ends["low"]["share"], abs=1e-4)


def test_two_opposite_latents_of_a_non_negative_sae_reach_as_much_as_a_pair(
    lm: LanguageModel, prepared: Any, direction: torch.Tensor
) -> None:
    scores, details = scored(lm, prepared, planted(direction, "topk", [1, -1]))
    of_dim = details["methods"]["dim"]["range"][0]
    assert scores["pair"] == pytest.approx(of_dim, abs=0.05)
    pair = details["concepts"]["gender"]["pair"]
    assert {pair["high"]["latent"], pair["low"]["latent"]} == {5, 6}
    single, _ = scored(lm, prepared, planted(direction, "topk", [1]))
    assert single["pair"] < of_dim - 0.3
    # The signed latent in the split view is two such latents.
    split, _ = scored(lm, prepared, SplitSAE(planted(direction, "abstopk", [1])))
    assert split["pair"] == pytest.approx(of_dim, abs=0.05)


def test_random_latents_and_directions_reach_little(lm: LanguageModel, prepared: Any) -> None:
    scores, details = scored(lm, prepared, random_sae("abstopk"))
    assert scores["range"] < 0.35
    assert details["methods"]["random"]["range"][0] < 0.35
    assert details["methods"]["probe"]["range"][0] > 0.7


def test_settings_that_ruin_the_text_do_not_count(lm: LanguageModel, prepared: Any) -> None:
    """With pushes only that make the model stammer, nothing is reached, however much of a pole is shown."""
    search: Search = prepared.searches["gender"]
    line = dim(lm, search.concept, SITE, 1, 0)
    strong = replace(search, strengths=(4.0,))
    (found,) = strong.run(line, {"both": [0]}).values()
    assert found.ends == Ends(None, None, 0.0)
    free = replace(strong, limits=Limits(1e3, 1.0))
    (found,) = free.run(line, {"both": [0]}).values()
    assert found.ends.range > 0.2
    assert found.high.nats_per_token > search.test.unsteered.nats_per_token + 1  # type: ignore[operator]


def test_an_sae_without_a_differing_latent_is_skipped(lm: LanguageModel, prepared: Any) -> None:
    sae = random_sae("topk")
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.b_enc.zero_()
    with pytest.raises(Skip, match="no latent of this SAE differs"):
        scored(lm, prepared, sae)


def test_directions_are_found_as_their_names_say(lm: LanguageModel, prepared: Any) -> None:
    concept = prepared.searches["gender"].concept
    lines: dict[str, list[Line]] = {
        "probe": probe(lm, concept, SITE, 2, 0),
        "pca": pca(lm, concept, SITE, 5, 0),
    }
    mean = dim(lm, concept, SITE, 1, 0)[0].direction
    for found in lines.values():
        for line in found:
            assert float(line.direction.norm()) == pytest.approx(1, abs=1e-5)
            assert float(line.direction @ mean) >= -1e-5
    together = torch.stack([line.direction for line in lines["pca"]])
    torch.testing.assert_close(together @ together.T, torch.eye(5), atol=1e-4, rtol=0)
    assert len(probe(lm, concept, SITE, 2, 0)) == 2


def test_units_of_a_non_negative_sae_have_one_side(lm: LanguageModel, prepared: Any) -> None:
    concept = prepared.searches["gender"].concept
    topk, abstopk = random_sae("topk"), random_sae("abstopk")
    codes = codes_of(lm, [topk, abstopk], concept, SITE)
    lines, units = latents(topk, codes(topk), 4)
    assert len(lines) == len(units) == 4
    assert all(each.one_way(each.sign) and not each.one_way(-each.sign) for each in units)
    signed, _ = latents(abstopk, codes(abstopk), 4)
    assert all(each.one_way(1) and each.one_way(-1) for each in signed)


# The task


def test_methods_without_an_sae_are_measured_once(
    lm: LanguageModel, kept: MemoryKept, prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Search, "run", lambda *_: pytest.fail("measured again"))
    ctx = context(kept=kept)
    again = TwoWaySteering(**SMALL).prepare(lm, ctx)
    assert again.baselines == prepared.baselines
    with pytest.raises(pytest.fail.Exception):
        TwoWaySteering(**{**SMALL, "max_loss": 0.2}).prepare(lm, ctx)


def test_a_limit_reaches_texts_and_stems_and_the_price_is_what_is_generated(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    amounts = {}
    generated: list[int] = []
    generate = LanguageModel.generate

    def counting(self: LanguageModel, prompts: Sequence[str], **how: Any) -> list[str]:
        generated.append(len(prompts) * how["max_new_tokens"])
        return generate(self, prompts, **how)

    monkeypatch.setattr(LanguageModel, "generate", counting)
    ctx = replace(
        context(used=lambda each: amounts.update({each.what: each})), evaluation=EvaluationSpec(limit=5)
    )
    options = {**SMALL, "candidates": 1, "strengths": (0.25,)}
    with torch.no_grad():
        prepared = TwoWaySteering(**options).prepare(lm, ctx)
    concept = prepared.searches["gender"].concept
    assert [len(texts) for texts in concept.texts] == [5, 5]
    assert (len(concept.validation), len(concept.test)) == (5, 5)
    assert len(prepared.searches["gender"].screening.exam.stems) == 4
    setting = CostSetting(ctx.evaluation, DATA, 128)
    stated = TwoWaySteering(**options).cost(setting).once.generated
    assert sum(generated) <= stated <= 2 * sum(generated)
    assert {name: (each.used, each.requested) for name, each in amounts.items()} == {
        "texts": (10, 10),
        "validation stems": (5, 5),
        "test stems": (5, 5),
    }


def test_what_else_moves_is_read_from_the_same_continuations(lm: LanguageModel) -> None:
    options = {
        **SMALL,
        "concepts": ("gender", "number"),
        "candidates": 1,
        "strengths": (0.5,),
        "test_stems": 6,
    }
    measured: dict[str, Any] = {}
    ctx = context(measured=lambda name, value: measured.update({name: value}))
    with torch.no_grad():
        prepared = TwoWaySteering(**options).prepare(lm, ctx)
    assert measured["other_concepts"] == 1
    assert measured["reader_accuracy"] is None
    found = prepared.baselines["dim"]["concepts"]["gender"]
    search: Search = prepared.searches["gender"]
    line = dim(lm, search.concept, SITE, 1, 0)[0]
    shares = []
    for end in (found["high"], found["low"]):
        strength = end.get("strength", 0.0) * search.unit
        [replies] = search.test.exam.continued([(line, strength)])
        shares.append(AxisOracle("number")(replies).mean())
    assert found["moved"] == pytest.approx(abs(shares[0] - shares[1]), abs=1e-4)
    assert found["most_moved"] == ["number", found["moved"]]


# Concepts of one's own


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of scenes about size, as texts whose poles are known only from the file."""
    file = tmp_path_factory.mktemp("own") / "sizes.jsonl"
    rows = (
        {"text": scene.text, "pole": pole}
        for pole in AXES["size"]
        for scene in World().sample("scene", "test", 120, about="size", size=pole)
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_file_is_a_concept_with_a_classifier_of_known_accuracy(lm: LanguageModel, own: Path) -> None:
    options = {
        **SMALL,
        "concepts": (str(own),),
        "accuracy_texts": 30,
        "classifier_texts": 60,
        "stem_tokens": 5,
    }
    task, measured = TwoWaySteering(**{**options, "candidates": 1}), {}
    sae = random_sae("topk")
    ctx = context(measured=lambda name, value: measured.update({name: value}), saes=(sae,))
    (concept,) = task._concepts(lm, ctx)
    assert (concept.name, concept.poles) == ("sizes", ("small", "large"))
    assert concept.accuracy is not None and concept.accuracy.n == 2 * len(
        parts_of(concept, own, lm)["accuracy"][0]
    )
    pieces = parts_of(concept, own, lm)
    for pole in (0, 1):
        used = [pieces[use][pole] for use in ("stems", "accuracy", "texts", "classifier")]
        assert len(set().union(*used)) == sum(map(len, used))
        assert concept.texts[pole] == pieces["texts"][pole]
    assert all(len(lm.token_ids([stem])[0]) == 5 for stem in (*concept.validation, *concept.test))
    with torch.no_grad():
        prepared = task.prepare(lm, ctx)
        _, details = parted(task, task.score(sae, prepared, lm, ctx))
    assert measured["reader_accuracy"] == concept.accuracy.value > 0.6
    known = details["two_way"]["readers"]["sizes"]
    assert known["poles"] == ["small", "large"] and known["accuracy"][3] == concept.accuracy.n


def parts_of(concept: Any, own: Path, lm: LanguageModel) -> dict[str, tuple[tuple[str, ...], ...]]:
    from abench.tasks.bidirectionality.concepts import own_concepts
    from abench.tasks.two_way_steering.texts import _divided

    (given,) = own_concepts(str(own), {}, limit=None)
    sizes = Sizes(24, 6, 16, 5, 8, 60, 30)
    divided = [_divided(given, pole, sizes, 0) for pole in (0, 1)]
    return {use: tuple(each[use] for each in divided) for use in divided[0]}


def test_two_classes_of_a_labelled_data_set_are_a_concept(lm: LanguageModel) -> None:
    def concept(name: str) -> Any:
        options = {**SMALL, "concepts": (name,), "classifier_texts": 60, "accuracy_texts": 20}
        return TwoWaySteering(**options)._concepts(lm, context())[0]

    reviews = concept("tinyworld/reviews_sentiment")
    assert reviews.poles == ("negative", "positive")
    assert [len(texts) for texts in reviews.texts] == [24, 24]
    assert AxisOracle("sentiment")(reviews.texts[1]).mean() > 0.9
    assert reviews.accuracy.value > 0.7
    assert concept("tinyworld/reviews:film/book").poles == ("film", "book")
    for wrong in ("tinyworld/reviews", "tinyworld/reviews:film/sofa"):
        with pytest.raises(UserError, match="name two of them as its poles: tinyworld/reviews:book/film"):
            concept(wrong)


def test_rows_may_be_moved(lm: LanguageModel, own: Path, tmp_path: Path) -> None:
    rows = own.read_text().splitlines()
    first = rows[0]
    Random(1).shuffle(rows)
    rows.remove(first)
    moved = tmp_path / own.name
    moved.write_text("\n".join([first, *rows]) + "\n")  # the first row decides which pole is the negative one
    task = {name: TwoWaySteering(**{**SMALL, "concepts": (str(name),)}) for name in (own, moved)}
    ours, theirs = (task[name]._concepts(lm, context())[0] for name in (own, moved))
    assert (ours.texts, ours.validation, ours.test) == (theirs.texts, theirs.validation, theirs.test)


@pytest.mark.parametrize(
    ("rows", "sentence", "error"),
    [
        (
            [("a b c", "x"), ("d e", "y"), ("f g", "z")],
            "must have two poles, and it has 3: x, y, z",
            UserError,
        ),
        ([(f"word {i}", "xy"[i % 2]) for i in range(20)], "10 texts of the pole 'x', and at least 40", Skip),
        ([(f"dog {i}", "xy"[i % 2]) for i in range(400)], "longer than 8 tokens", Skip),
    ],
)
def test_files_that_will_not_do(
    lm: LanguageModel, tmp_path: Path, rows: list[tuple[str, str]], sentence: str, error: type[Exception]
) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("text,pole\n" + "".join(f"{text},{pole}\n" for text, pole in rows))
    with pytest.raises(error, match=sentence):
        TwoWaySteering(**{**SMALL, "concepts": (str(file),)}).skip(lm, context())


def test_two_concepts_of_one_name_are_refused(lm: LanguageModel) -> None:
    with pytest.raises(UserError, match="several concepts are named 'size'"):
        TwoWaySteering(**{**SMALL, "concepts": ("size", "size")}).skip(lm, context())


def test_a_price_is_told_and_grows_with_what_is_tried() -> None:
    setting = CostSetting(EvaluationSpec(), DATA, 128)
    small, large = (TwoWaySteering(candidates=n).cost(setting) for n in (4, 16))
    assert 0 < small.per_sae.generated < large.per_sae.generated < large.once.generated
    limited = TwoWaySteering().cost(replace(setting, evaluation=EvaluationSpec(limit=5)))
    assert limited.per_sae.generated < large.per_sae.generated
    assert TwoWaySteering(concepts=("gender",)).cost(setting).once.generated == pytest.approx(
        large.once.generated / len(AXES)
    )


# The report


@pytest.fixture(scope="module")
def records(lm: LanguageModel, prepared: Any, direction: torch.Tensor) -> list[dict[str, Any]]:
    """Cells of a planted signed SAE in both views and of a non-negative one, as a run stores them."""
    signed = planted(direction, "abstopk", [1])
    saes = [("abstopk", "native", signed), ("abstopk", "split", SplitSAE(signed)), ("topk", "native", None)]
    found = []
    for variant, view, sae in saes:
        scores, details = scored(lm, prepared, sae if sae is not None else random_sae("topk"))
        metrics = [vars(each) for each in TwoWaySteering.metrics]
        fields = {"metrics": metrics, "details": {"two_way": details}}
        found.append(cell("two_way_steering", scores, variant=variant, view=view, **fields))
    return found


def test_the_table_has_the_methods_without_an_sae_and_every_sae(records: list[dict[str, Any]]) -> None:
    tables = build_tables(records)
    (table,) = tables.own
    rows = {row.title: row for row in table.rows()}
    assert list(rows)[:4] == ["Random direction", "Principal component", "Probe", "DiM"]
    assert set(list(rows)[4:]) == {"AbsTopK (native)", "AbsTopK (split)", "TopK"}
    columns = [column.metric for column in table.columns]
    kept = records[0]["details"]["two_way"]["methods"]
    for title, method in (("DiM", "dim"), ("AbsTopK (native)", "both")):
        shown = dict(zip(columns, rows[title].cells, strict=True))
        value, low, high, _ = (100 * each for each in kept[method]["range"])
        assert shown["range"].text == f"{value:.1f} [{low:.1f}, {high:.1f}]"
        assert shown["loss"].text == f"{kept[method]['loss']:.2f}"
        assert shown["high"].mean - shown["low"].mean == pytest.approx(value / 100, abs=1e-3)
    assert rows["DiM"].cells[columns.index("pair")].text == ""
    assert any("16 stems in total" in note for note in table.notes)
    assert not any(each.heading == "two_way_steering" for each in tables.tasks)


def test_seeds_are_averaged_and_a_missing_one_leaves_no_mean(records: list[dict[str, Any]]) -> None:
    native = records[0]

    def of_seed(seed: int, **changes: Any) -> dict[str, Any]:
        return native | {"labels": native["labels"] | {"seed": seed}, "key": f"{seed:064}"} | changes

    (row,) = [r for r in build_tables([of_seed(0), of_seed(1)]).own[0].rows() if r.seeds]
    assert row.seeds == 2 and row.cells[0].sd == 0
    failed = of_seed(1, status="failed", scores={}, details={})
    (row,) = [r for r in build_tables([of_seed(0), failed]).own[0].rows() if r.seeds]
    assert row.cells[0].text == "1/2"


def test_the_figure_shows_each_curve_and_what_is_beyond_the_limits(records: list[dict[str, Any]]) -> None:
    (figure,) = TwoWaySteering.figures()
    points = figure.points(records)
    curve = records[0]["details"]["two_way"]["concepts"]["gender"]["both"]["curve"]
    mine = points[(points["variant"] == "abstopk") & (points["view"] == "native")]
    assert mine["share"].tolist() == [each["share"] for each in curve]
    assert mine["strength"].tolist() == sorted(each["strength"] for each in curve)
    of_dim = records[0]["details"]["two_way"]["concepts"]["gender"]["dim"]["curve"]
    assert len(points[points["variant"] == "dim"]) == len(of_dim)
    assert (points["fluent"] == ((points["loss"] <= 0.6) & (points["degenerate"] <= 0.05))).all()
    (axes,) = [each for each in figure.draw(points, "heading", {}).axes if each.get_visible()]
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert {"DiM", "AbsTopK, native", "AbsTopK, split", "TopK, native"} == set(drawn) - {"_beyond"}
    assert list(drawn["AbsTopK, native"].get_ydata()) == mine["share"].tolist()


def test_each_seed_has_a_line_of_its_own(records: list[dict[str, Any]]) -> None:
    """A mean would jump where only one of the seeds has an end."""
    (figure,) = TwoWaySteering.figures()
    points = figure.points(records)
    first = points[(points["variant"] == "abstopk") & (points["view"] == "native")]
    second = first[first["strength"] <= 0].assign(seed=1)
    (axes,) = figure.draw(pd.concat([first, second]), "heading", {}).axes
    lines = [line for line in axes.get_lines() if line.get_label() != "_beyond"]
    assert [line.get_label() for line in lines] == ["AbsTopK", "_further"]
    for line, of in zip(lines, (first, second), strict=True):
        assert list(line.get_xdata()) == of["strength"].tolist()
        assert list(line.get_ydata()) == of["share"].tolist()


@pytest.mark.parametrize("concept", ["gender", "canrager/amazon_reviews_mcauley_1and5_sentiment"])
def test_heading_title_and_legend_lie_within_a_figure_of_one_concept(
    records: list[dict[str, Any]], concept: str
) -> None:
    (figure,) = TwoWaySteering.figures()
    points = figure.points(records).assign(concept=concept)
    drawn = figure.draw(points, "smollm2-135m, blocks.15.hook_resid_post", {})
    drawn.draw_without_rendering()
    (legend,), heading, (axes,) = drawn.legends, drawn.texts[0], drawn.axes
    for extent in (each.get_window_extent() for each in (legend, heading, axes.title)):
        assert drawn.bbox.x0 <= extent.x0 and extent.x1 <= drawn.bbox.x1
