"""AutoInterp: planted latents are explained, senseless ones are not; parity with sae-bench; judges."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from abench.tasks._shared.drawn import drawn, in_order, projections
from abench.tasks.autointerp import AutoInterp
from abench.tasks.autointerp.endpoint import OpenAIExplainer, read_explanation, read_numbers
from abench.tasks.autointerp.features import lexical, oracle
from abench.tasks.autointerp.judges import balanced, detection
from abench.tasks.autointerp.sampling import Sampler, Sizes, uniform
from abench.tasks.autointerp.validation import made_up, validation
from abench.tasks.autointerp.windows import Examples, Window
from chat_server import Says, chat_server, without_proxies
from command import SMALL, Abench
from interp_saes import AXES, Axes, senseless_sae
from signed import flipped, permuted, random_sae

from abench import TokenRows, as_sae
from abench.conformance.bench import Bench
from abench.judges import Endpoint
from abench.kept import MemoryKept
from abench.task import parted


@pytest.fixture(scope="module")
def bench() -> Bench:
    bench = Bench(limit=400)
    bench._evaluation = bench._evaluation.model_copy(update={"tokens": 51_200, "batch_size": 32})
    return bench


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    without_proxies(monkeypatch)


def scored(
    bench: Bench, sae: Any, *, kept: Any = None, say: Any = None, **options: Any
) -> tuple[dict[str, float], dict[str, Any], dict[str, float | None]]:
    """Scores, details and preconditions."""
    task = AutoInterp(**{"validation": 0} | options)
    measured: dict[str, float | None] = {}
    ctx = replace(bench.context((sae,)), measured=measured.__setitem__)
    ctx = replace(ctx, kept=kept or ctx.kept, say=say or ctx.say)
    with torch.no_grad():
        result = task.score(sae, task.prepare(bench.lm, ctx), bench.lm, ctx)  # type: ignore[arg-type]
    scores, details = parted(task, result)
    return dict(scores), details["autointerp"], measured


# Planted truth


def axes_sae(bench: Bench) -> Any:
    rows = TokenRows(bench.lm, bench.data, "held_out", 128, seed=0).batch(400)  # type: ignore[arg-type]
    return as_sae(Axes(bench.lm, bench.site, rows))  # type: ignore[arg-type]


def test_a_latent_that_is_an_axis_is_explained_as_a_whole_and_by_each_pole(bench: Bench) -> None:
    scores, details, measured = scored(bench, axes_sae(bench), judge="oracle")
    assert (scores["latents"], scores["poles"], scores["unfit"]) == (2, 4, 0)
    for name in ("detection", "balanced", "main_pole", "other_pole", "explained", "both_explained"):
        assert scores[name] == 1, (name, details)
    assert (measured["main_poles"], measured["other_poles"]) == (2, 2)
    said = {each["whole"]["explanation"] for each in details["examples"]["best"]}
    poles = [{f"{axis}+", f"{axis}-"} for axis in AXES]
    assert len(said) == 2 and all(set(text.split("; or ")) in poles for text in said)


def test_by_vocabulary_an_axis_is_missed_only_where_its_words_were_not_shown(bench: Bench) -> None:
    scores, _, _ = scored(bench, axes_sae(bench), judge="lexical")
    assert 0.85 < scores["detection"] < 1
    assert min(scores["main_pole"], scores["other_pole"]) > 0.9


def test_senseless_latents_are_at_chance(bench: Bench) -> None:
    scores, _, _ = scored(bench, senseless_sae(bench.lm), judge="oracle")  # type: ignore[arg-type]
    assert scores["latents"] >= 30
    assert 0.4 < scores["balanced"] < 0.6
    assert scores["explained"] <= 0.05 and scores["both_explained"] == 0
    lexically, _, _ = scored(bench, senseless_sae(bench.lm), judge="lexical")  # type: ignore[arg-type]
    assert 0.4 < lexically["balanced"] < 0.6


def test_a_one_sided_latent_has_no_other_pole_and_none_is_invented(bench: Bench) -> None:
    scores, details, measured = scored(bench, bench.saes["plain"], latents=30)
    assert measured["other_poles"] == 0
    assert scores["main_pole"] == scores["detection"]
    assert scores["poles"] == scores["latents"] and scores["both_explained"] == 0
    assert all("other" not in each for each in details["latents"].values())
    assert "other" not in details["fit"]


def test_a_latent_without_enough_windows_is_counted_and_has_no_number(bench: Bench) -> None:
    few = bench.with_limit(400)
    few._evaluation = few._evaluation.model_copy(update={"tokens": 1280})
    scores, details, _ = scored(few, bench.saes["plain"], latents=60)
    assert 0 < scores["unfit"] < 1
    assert scores["latents"] == len(details["latents"]) == details["fit"]["whole"]
    assert scores["unfit"] == pytest.approx(1 - scores["latents"] / details["drawn"])


def test_scores_are_the_means_of_the_latents_in_the_details(bench: Bench) -> None:
    scores, details, _ = scored(bench, bench.saes["signed"], latents=25)
    each = details["latents"].values()
    assert scores["detection"] == pytest.approx(np.mean([a["whole"] for a in each]), abs=1e-6)
    assert scores["main_pole"] == pytest.approx(np.mean([a["main"] for a in each if "main" in a]), abs=1e-6)
    assert scores["other_pole"] == pytest.approx(
        np.mean([a["other"] for a in each if "other" in a]), abs=1e-6
    )
    assert scores["explained"] == pytest.approx(np.mean([a["whole"] >= 0.9 for a in each]))
    assert len(json.dumps(details)) < 10_000


def test_the_latents_are_those_of_the_seed_up_to_order_and_sign() -> None:
    sae = random_sae("abstopk", width=200)
    rows = {tuple(row.abs().tolist()) for row in sae.W_dec[drawn(sae.W_dec, 0)[:20]]}
    for other in (flipped(sae), permuted(sae)):
        assert {tuple(row.abs().tolist()) for row in other.W_dec[drawn(other.W_dec, 0)[:20]]} == rows
    assert drawn(sae.W_dec, 0) != drawn(sae.W_dec, 1)
    # Opposite poles are different ones.
    both = torch.cat([sae.W_dec, -sae.W_dec])
    order = in_order(projections(both, 0))
    assert sorted(order) == list(range(400))
    assert {latent % 200 for latent in order[:100]} != {latent % 200 for latent in order[100:200]}


# Windows


class Rows:
    """Rows of two documents each; tokens are numbers, and 0 separates documents."""

    special_ids = frozenset((0,))
    tokenizer = SimpleNamespace(decode=lambda ids: "".join(f" {each}" for each in ids))

    def __init__(self, rows: int, context: int) -> None:
        self.tokens = torch.arange(1, rows * context + 1).reshape(rows, context)
        self.tokens[:, [0, context // 2]] = 0

    def sampler(self, sizes: Sizes) -> Sampler:
        return Sampler(self, self.tokens, sizes)  # type: ignore[arg-type]


SMALLER = Sizes(3, 2, 2, 1, 4, around=3)


def firings(rows: Rows, number: int, seed: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    ordinary = np.flatnonzero((rows.tokens != 0).numpy())
    places = np.sort(generator.choice(ordinary, number, replace=False))
    return places, generator.uniform(0.5, 2, number).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_windows_are_disjoint_and_within_documents_and_the_tested_ones_have_both_kinds(seed: int) -> None:
    rows = Rows(40, 32)
    places, values = firings(rows, 120, seed)
    found = rows.sampler(SMALLER).examples(places, values, seed)
    assert found is not None
    assert (len(found.shown), len(found.tested)) == (5, 7)
    assert [window.active for window in found.tested].count(True) == 3
    assert all(window.active for window in found.shown) and not found.two_sided
    numbers = [int(token) for window in (*found.shown, *found.tested) for token in window.tokens]
    assert len(numbers) == len(set(numbers)) and 0 not in numbers
    for window in (*found.shown, *found.tested):
        first, last = int(window.tokens[0]) - 1, int(window.tokens[-1]) - 1
        assert last - first == len(window.tokens) - 1 <= 6 and first // 16 == last // 16
        assert [bool(mark) for mark in window.marks] == [int(t) - 1 in set(places) for t in window.tokens]
    assert list(found.shown) == sorted(found.shown, key=lambda window: -window.strength)


def test_the_same_firings_give_the_same_windows_in_any_unit_and_sign() -> None:
    rows = Rows(40, 32)
    places, values = firings(rows, 120)
    values[::2] *= -1
    sampler = rows.sampler(SMALLER)
    found = sampler.examples(places, values, 7)
    assert found is not None and found.two_sided
    assert {mark for window in found.shown for mark in window.marks} == {-1, 0, 1}
    turned = sampler.examples(places, -values, 7)
    assert turned is not None and found == turned
    larger = sampler.examples(places, values * 64, 7)
    assert larger is not None and [w.marks for w in larger.tested] == [w.marks for w in found.tested]
    assert found != sampler.examples(places, values, 8)


def test_a_unit_that_fires_too_rarely_or_nearly_everywhere_has_no_examples() -> None:
    rows = Rows(40, 32)
    sampler = rows.sampler(SMALLER)
    assert sampler.examples(*firings(rows, 7), 0) is None  # 8 windows are needed
    assert sampler.examples(*firings(rows, 1000), 0) is None  # no window without a firing
    assert sampler.examples(np.array([], dtype=np.int64), np.array([], dtype=np.float32), 0) is None


def test_a_token_is_active_above_one_hundredth_of_the_largest_code() -> None:
    rows = Rows(40, 32)
    places, values = firings(rows, 60)
    values[:] = 1
    values[::3] = 0.009
    found = rows.sampler(SMALLER).examples(places, values, 1)
    assert found is None  # equal codes: none lies below the strongest windows, so there is nothing to draw
    values[1::3] = 0.5
    found = rows.sampler(SMALLER).examples(places, values, 1)
    assert found is not None
    weak = {int(place) + 1 for place in places[::3]}
    marked = [
        int(token)
        for window in (*found.shown, *found.tested)
        for token, mark in zip(window.tokens, window.marks, strict=True)
        if mark
    ]
    assert marked and not weak & set(marked)


# Parity with sae-bench


@pytest.fixture(scope="module")
def theirs() -> Any:
    from sae_bench.evals.autointerp.main import AutoInterp as Theirs

    return Theirs.__new__(Theirs)


ANSWERS = ("1, 5, 9", "3", "None", "2, 4 and 11.", "14", "1,2,3", " 7 ", "I think 3", "x, 2")


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_are_read_and_scored_as_sae_bench_does(theirs: Any, answer: str) -> None:
    generator = np.random.default_rng(0)
    active = generator.permutation([True] * 4 + [False] * 10)
    tested = tuple(Window((" a",), (int(each),)) for each in active)
    examples = Examples((), tested)
    numbers = theirs.parse_predictions(answer)
    ours = read_numbers(answer, most=14)
    assert (numbers is None) == (ours is None)
    if ours is not None:
        its = [SimpleNamespace(is_active=bool(each)) for each in active]
        assert detection(ours, examples) == theirs.score_predictions(numbers, its)


def test_what_sae_bench_counts_as_predictions_and_here_cannot_be_read(theirs: Any) -> None:
    """An empty answer is no prediction of silence, and there is no text 15."""
    assert theirs.parse_predictions("") == [] and read_numbers("", most=14) is None
    assert theirs.parse_predictions("2, 15") == [2, 15] and read_numbers("2, 15", most=14) is None


@pytest.mark.parametrize(
    "answer", ["This neuron activates on verbs in the past.", "verbs in the past", '"verbs in the past"']
)
def test_explanations_are_read_as_sae_bench_does(theirs: Any, answer: str) -> None:
    assert read_explanation(answer) == theirs.parse_explanation(answer).strip('"') == "verbs in the past"


def test_the_strongest_windows_are_sae_bench_s_where_windows_do_not_touch() -> None:
    from sae_bench.sae_bench_utils.indexing_utils import get_k_largest_indices

    rows = Rows(60, 32)
    # One firing per document, far from its ends.
    places = np.array([row * 32 + column for row in range(60) for column in (8, 24)])
    values = np.random.default_rng(1).uniform(0.5, 2, len(places)).astype(np.float32)
    acts = torch.zeros(60 * 32)
    acts[places] = torch.from_numpy(values)
    indices = get_k_largest_indices(acts.reshape(60, 32), k=5, buffer=3, no_overlap=True)
    expected = {int(row * 32 + column) + 1 for row, column in indices.tolist()}
    found = rows.sampler(SMALLER).examples(places, values, 3)
    assert found is not None
    strongest = sorted((*found.shown, *found.tested), key=lambda window: -window.strength)[:5]
    assert {int(window.tokens[3]) for window in strongest} == expected


def test_windows_are_drawn_in_proportion_to_squared_codes_as_in_sae_bench() -> None:
    from sae_bench.sae_bench_utils.indexing_utils import get_iw_sample_indices

    rows = Rows(60, 32)
    places = np.array([row * 32 + 8 for row in range(60)])
    values = np.full(60, 9.0, dtype=np.float32)
    values[5:] = 0.2
    values[10], values[20] = 4, 2
    acts = torch.zeros(60, 32)
    acts[:, 8] = torch.from_numpy(np.where(values < 9, values, 0))
    sizes = Sizes(4, 1, 1, 0, 2, around=3)
    sampler = rows.sampler(sizes)
    ours, its = [], []
    torch.manual_seed(0)
    for seed in range(400):
        found = sampler.examples(places, values, seed * 7919)
        assert found is not None
        (window,) = [each for each in found.shown if each.strength < 9]
        ours.append(int(window.tokens[3]) // 32)
        its.append(int(get_iw_sample_indices(acts, k=1, buffer=3)[0, 0]))
    # 16 : 4 : 53 · 0.04
    for row, expected in ((10, 16 / 22.12), (20, 4 / 22.12)):
        assert ours.count(row) / 400 == pytest.approx(expected, abs=0.07)
        assert its.count(row) / 400 == pytest.approx(expected, abs=0.07)


def test_random_numbers_are_uniform_and_differ_by_seed_and_purpose() -> None:
    draws = uniform(np.arange(20_000), 5, 1)
    assert ((draws > 0) & (draws < 1)).all()
    assert draws.mean() == pytest.approx(0.5, abs=0.01) and draws.std() == pytest.approx(12**-0.5, abs=0.01)
    assert abs(np.corrcoef(draws, uniform(np.arange(20_000), 5, 2))[0, 1]) < 0.03
    assert abs(np.corrcoef(draws, uniform(np.arange(20_000), 6, 1))[0, 1]) < 0.03


def test_a_prediction_of_nothing_scores_the_share_of_silent_windows() -> None:
    examples = Examples((), tuple(Window((" a",), (int(n < 4),)) for n in range(14)))
    none, right = (False,) * 14, tuple(n < 4 for n in range(14))
    assert detection(none, examples) == 10 / 14 and balanced(none, examples) == 0.5
    assert detection(right, examples) == balanced(right, examples) == 1
    assert balanced((True, *none[1:]), examples) == 0.625


# Judges without a language model


def window(text: str, *active: str, other: str = "") -> Window:
    words = text.split()
    marks = tuple(1 if word in active else -1 if word == other else 0 for word in words)
    return Window(tuple(f" {word}" for word in words), marks, 1.0)


def test_the_oracle_explains_by_concept_and_pole_and_detects_other_words_of_it() -> None:
    shown = (window("she saw the fox", "she"), window("the nurse lost her key", "her"))
    tested = (window("my sister left"), window("my brother left"), window("the fox left"))
    (answer,) = oracle().answers([Examples(shown, tested)])
    assert (answer.explanation, answer.predicted) in (
        ("gender+", (True, False, False)),
        ("gender-", (True, False, False)),
    )
    (words,) = lexical().answers([Examples(shown, tested)])
    assert (words.explanation, words.predicted) == ("her, she", (False, False, False))


def test_both_sides_of_a_latent_are_explained() -> None:
    shown = (window("she saw him", "she", other="him"), window("he saw her", "her", other="he"))
    tested = (window("she left"), window("he left"), window("they left"))
    (answer,) = oracle().answers([Examples(shown, tested)])
    assert {*str(answer.explanation).split("; or ")} == {"gender+", "gender-"}
    assert answer.predicted == (True, True, False)
    (words,) = lexical().answers([Examples(shown, tested)])
    assert words.explanation == "her, she; or he, him" and words.predicted == (True, True, False)


def test_marks_of_no_common_label_are_not_explained_by_the_oracle() -> None:
    shown = (window("the fox saw the key", "the"), window("the cat of the nurse", "of"))
    (answer,) = oracle().answers([Examples(shown, (window("the fox"),))])
    assert (answer.explanation, answer.predicted) == ("", (False,))


@pytest.mark.parametrize(("judge", "least"), [(oracle(), 0.95), (lexical(), 0.85)])
def test_judges_without_a_model_pass_their_validation(bench: Bench, judge: Any, least: float) -> None:
    ctx = bench.context(())
    found = validation(judge, ctx, number=80, sizes=Sizes(), explained_from=0.9)
    assert found["accuracy"][0] >= least and found["accuracy"][3] == 80
    assert found["by_kind"]["nothing"][3] == 40


def test_a_judge_that_always_predicts_the_same_fails_its_validation_and_is_asked_once(bench: Bench) -> None:
    from abench.tasks.autointerp.judges import Answer

    class Stubborn:
        name, asked = "stubborn", 0

        def spec(self) -> dict[str, Any]:
            return {"judge": "stubborn"}

        def answers(self, units: Any) -> list[Answer]:
            self.asked += len(units)
            return [Answer("all", (False,) * len(unit.tested)) for unit in units]

    judge, ctx = Stubborn(), bench.context(())
    first = validation(judge, ctx, number=40, sizes=Sizes(), explained_from=0.9)
    assert first["accuracy"][0] == 0.5 < AutoInterp.valid_if[0].at_least
    assert validation(judge, ctx, number=40, sizes=Sizes(), explained_from=0.9) == first
    assert judge.asked == 40


def test_made_up_latents_are_those_of_their_seed() -> None:
    assert made_up(8, Sizes(), seed=0) == made_up(8, Sizes(), seed=0) != made_up(8, Sizes(), seed=1)
    for kind, examples in made_up(8, Sizes(), seed=0):
        assert [each.active for each in examples.tested].count(True) == 4
        assert len(examples.shown) == 15 and all(each.active for each in examples.shown)
        assert examples.two_sided == (kind == "two labels")


# A model behind an endpoint


def two_units() -> list[Examples]:
    tested = (window("the fox left"), window("she left"), window("he left"))
    one = Examples((window("a fox saw her", "fox"), window("the fox {texts}", "fox")), tested)
    two = Examples((window("she saw him", "she", other="him"),), tested)
    return [one, two]


def explaining(request: dict[str, Any], _n: int) -> Says:
    """Explains the first unit as foxes and the second one as persons, and detects both."""
    text = request["messages"][0]["content"]
    if "at most 20 words" in text:
        return Says("It is active on the word fox." if "<<fox>>" in text else "She; or him")
    return Says("1" if "on: the word fox" in text else "2 and 3")


def test_an_endpoint_s_model_explains_then_predicts_and_is_asked_once() -> None:
    said: list[str] = []
    units, kept = two_units(), MemoryKept()
    with chat_server(explaining) as server:
        judge = OpenAIExplainer(Endpoint("m", server.base_url), kept, said.append)
        asked_before_told = len(server.asked)
        found = judge.answers([*units, units[0]])
        assert len(server.asked) == 4
        assert judge.cost_estimate(units).requests == 0
        assert judge.answers(units) == found[:2]
        assert len(server.asked) == 4
    assert asked_before_told == 0
    assert [(a.explanation, a.predicted) for a in found[:2]] == [
        ("the word fox", (True, False, False)),
        ("She; or him", (False, True, True)),
    ]
    assert found[2] == found[0]
    (sentence,) = said
    assert f"judging with m at {server.base_url}: 4 requests, about " in sentence
    texts = [each["messages"][0]["content"] for each in server.asked]
    explain = [text for text in texts if "at most 20 words" in text]
    (one,) = [text for text in explain if "fox" in text]
    assert "1.  a <<fox>> saw her\n2.  the <<fox>> {texts}\n" in one and "[[" not in one
    (two,) = [text for text in explain if "fox" not in text]
    assert "<<she>> saw [[him]]" in two and "second side" in two
    assert all("<<" not in text and "[[" not in text for text in texts if text not in explain)


def test_the_told_tokens_are_about_those_of_the_questions() -> None:
    said: list[str] = []
    with chat_server(explaining) as server:
        OpenAIExplainer(Endpoint("m", server.base_url), MemoryKept(), said.append).answers(two_units())
    characters = sum(len(each["messages"][0]["content"]) for each in server.asked)
    told = int(said[0].split("about ")[1].split(" ")[0].replace(",", ""))
    assert told == pytest.approx(characters / 4 + 2 * 30 + 2 * 12, rel=0.1)


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("the word fox", "the word fox"),
        ("This latent is active on: **dates**", "dates"),
        ("The neuron fires for names.", "names"),
        ("words that one responds to in letters", "words that one responds to in letters"),
        (" \n", None),
        ("''", None),
    ],
)
def test_explanations_are_read(answer: str, read: str | None) -> None:
    assert read_explanation(answer) == read


def test_a_copy_of_the_texts_is_no_explanation() -> None:
    assert len(str(read_explanation("word " * 500)).split()) == 40


@pytest.mark.parametrize("answer", ["1 2 3", "1, 2, 3", "[1, 2, 3]", "1, 2 and 3.", "**1,2,3**", "3,2,1,1"])
def test_numbers_are_read_in_usual_forms(answer: str) -> None:
    assert read_numbers(answer, most=4) == (True, True, True, False)


@pytest.mark.parametrize("answer", ["0", "5", "-1", "1.5", "one", "1-3", "", "none of them, 1", "²"])
def test_other_answers_cannot_be_read(answer: str) -> None:
    assert read_numbers(answer, most=4) is None


def test_answers_that_cannot_be_read_are_requested_once_more_then_left_out(bench: Bench) -> None:
    def answer(request: dict[str, Any], n: int) -> Says:
        text = request["messages"][0]["content"]
        if "at most 20 words" in text:
            return Says("" if n == 0 else f"thing {n}")
        return Says("2, 3" if int(text.split("on: thing ")[1].split("\n")[0]) % 2 else "well")

    with chat_server(answer) as server:
        options = {"judge": "openai", "judge_model": "m", "judge_url": server.base_url}
        scores, details, _ = scored(bench, bench.saes["plain"], latents=8, judge_parallel=1, **options)
    assert details["judge"] == "m"
    assert 0 < details["invalid"] < 16
    assert scores["latents"] == len(details["latents"]) < 8
    again = [each for each in server.asked if "must not be empty" in each["messages"][0]["content"]]
    assert len(again) == 1


def test_a_judge_that_is_never_readable_is_a_sentence(bench: Bench) -> None:
    from abench import UserError

    with chat_server(Says("It depends.")) as server:
        options = {"judge": "openai", "judge_model": "m", "judge_url": server.base_url, "latents": 4}
        with pytest.raises(UserError, match="the judge m gave no readable answer on any of 4 latents"):
            scored(bench, bench.saes["plain"], **options)


def test_a_judge_that_cannot_be_had_is_a_reason(bench: Bench) -> None:
    ctx = bench.context(())
    elsewhere = replace(ctx, data=ctx.data.model_copy(update={"source": "file", "dataset": "x.txt"}))
    skip: Any = AutoInterp().skip
    assert skip(bench.lm, ctx) is None
    assert "judge_model" in skip(bench.lm, elsewhere) and "lexical" in skip(bench.lm, elsewhere)
    assert "oracle" in str(AutoInterp(judge="oracle").skip(bench.lm, elsewhere))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="judge"):
        AutoInterp(judge="dice")  # type: ignore[arg-type]


def test_requests_are_in_the_price_and_parallel_ones_in_no_key(bench: Bench) -> None:
    from abench import CostSetting

    ctx = bench.context(())
    setting = CostSetting(ctx.evaluation.model_copy(update={"limit": None}), ctx.data, 128)
    asking = AutoInterp(judge="openai", judge_model="m", latents=50, validation=10).cost(setting)
    assert (asking.once.requests, asking.per_sae.requests) == (20, 300)
    assert "two poles" in asking.assumes
    assert AutoInterp().cost(setting).per_sae.requests == 0
    assert AutoInterp(judge_parallel=1).model_dump() == AutoInterp(judge_parallel=9).model_dump()


# A run


def test_a_run_prints_the_scores_the_judge_and_why_a_topk_sae_has_no_other_pole(
    abench: Abench, tmp_path: Path
) -> None:
    sizes = ("--variants", "abstopk,topk", "--k", "8", *SMALL, "--limit", "200")
    options = ("--set", "task_options.autointerp.latents=20", "--results", tmp_path / "results")
    ran = abench("run", *sizes, "--tasks", "autointerp", *options)
    assert ran.code == 0, ran.err
    out = " ".join(ran.out.split())
    assert "other pole" in out and "balanced" in out
    assert "oracle explains and predicts" in out and "has a detection of 0.71" in out
    assert "on 120 constructed latents it is right in" in out
    assert "the number of latents whose other pole was scored is 0" in out
    again = abench("run", *sizes, "--tasks", "autointerp", *options)
    assert "from the results folder" in again.out and "0 cells computed" not in again.err
