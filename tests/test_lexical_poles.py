"""The judge of latents that compares words: planted latents, invariances, its accuracy, a run."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from abench.tasks.bidirectionality import Bidirectionality
from abench.tasks.bidirectionality.lexical import LexicalPoles, are_apart, background_of, peaks_of
from abench.tasks.bidirectionality.oracle import TinyWorldPoles
from abench.tasks.bidirectionality.validation import made_up, validation
from abench.tasks.bidirectionality.words import WordVectors, words_of
from command import SMALL, Abench

from abench import Excerpt, LatentContexts
from abench.conformance.bench import Bench
from abench.conformance.check import check_found
from abench.judges import PoleVerdict
from abench.plugins import find_tasks
from abench.task import parted
from abench.tinyworld import World, labels

ANIMALS, PROFESSIONS = "animal:", "profession:"
Side = tuple[Excerpt, ...]


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(limit=200)


@pytest.fixture(scope="module")
def judge(bench: Bench) -> LexicalPoles:
    return LexicalPoles.of(bench.lm, bench.context(()))  # type: ignore[arg-type]


@cache
def places() -> tuple[tuple[tuple[str, ...], int], ...]:
    """All words of some texts, each as the text's words and its number."""
    documents = islice(World().documents("test"), 600)
    return tuple((each.words, i) for each in documents for i in range(len(each.words)))


def side(wanted: Callable[[str], bool], *, sign: int = 1, seed: int = 0, number: int = 8) -> Side:
    """Contexts that peak at words of the tiny world's texts."""
    found = [(words, i) for words, i in places() if wanted(words[i])]
    return tuple(excerpt(*place, sign) for place in Random(seed).sample(found, number))


def excerpt(words: tuple[str, ...], at: int, sign: int) -> Excerpt:
    start = max(0, at - 12)
    shown = words[start : at + 13]
    tokens = tuple(f" {word}" for word in shown)
    return Excerpt(tokens, tuple(sign * 5.0 * (start + i == at) for i in range(len(shown))), at - start)


def of(kind: str) -> Callable[[str], bool]:
    return lambda word: any(label.startswith(kind) for label in labels().get(word, ()))


def the_word(wanted: str) -> Callable[[str], bool]:
    return lambda word: word == wanted


def anything(_: str) -> bool:
    return True


def turned(latent: LatentContexts) -> LatentContexts:
    """The same latent with its sign turned."""

    def other(side: Side) -> Side:
        return tuple(replace(each, values=tuple(-value for value in each.values)) for each in side)

    return replace(latent, positive=other(latent.negative), negative=other(latent.positive))


# Planted latents


@pytest.mark.parametrize(
    ("positive", "negative", "kind"),
    [
        (the_word("said"), anything, "unidirectional"),
        (the_word("said"), the_word("restaurant"), "bidirectional"),
        (the_word("said"), the_word("said"), "unidirectional"),
        (of(ANIMALS), anything, "unidirectional"),
        (of(ANIMALS), of(PROFESSIONS), "bidirectional"),
        (of(ANIMALS), of(ANIMALS), "unidirectional"),
        (anything, anything, "none"),
    ],
    ids=["word", "words", "same word", "animals", "two subjects", "one subject", "nothing"],
)
def test_planted_latents_are_recognised(judge: LexicalPoles, positive: Any, negative: Any, kind: str) -> None:
    """Five draws of contexts each; of random words, about 3 % of the sides are alike by chance."""
    latents = [
        LatentContexts(seed, side(positive, seed=seed), side(negative, sign=-1, seed=seed + 100))
        for seed in range(5)
    ]
    said = [verdict.kind for verdict in judge.judge(latents)]
    assert said.count(kind) >= 4, said  # type: ignore[arg-type]


def test_a_verdict_names_the_most_frequent_words_of_what_is_about_something(judge: LexicalPoles) -> None:
    latent = LatentContexts(0, side(the_word("said")), side(anything, sign=-1, seed=1))
    assert judge.judge([latent]) == [PoleVerdict("unidirectional", "said", "")]


def test_without_enough_text_around_the_peaks_there_is_no_verdict(judge: LexicalPoles) -> None:
    alone = tuple(Excerpt((" so", " nurse"), (0.0, 1.0), 1) for _ in range(8))
    assert judge.judge([LatentContexts(0, alone, ())]) == [PoleVerdict("invalid")]


def test_a_side_of_one_context_or_none_is_about_nothing(judge: LexicalPoles) -> None:
    said = side(the_word("said"))
    kinds = [
        judge.judge([LatentContexts(0, said[:n], side(anything, sign=-1, seed=3))])[0].kind for n in (0, 1)
    ]
    assert kinds == ["none", "none"]


# Invariances


def test_verdicts_do_not_depend_on_sign_order_or_random_state(bench: Bench, judge: LexicalPoles) -> None:
    latents = [latent for _, latent in made_up(36, contexts=6, around=8, seed=5)]
    said = judge.judge(latents)
    assert {verdict.kind for verdict in said} == {"bidirectional", "unidirectional", "none"}
    torch.manual_seed(7)
    fresh = LexicalPoles.of(bench.lm, bench.context(()))  # type: ignore[arg-type]
    assert fresh.judge(latents[::-1])[::-1] == said
    swapped = [PoleVerdict(each.kind, each.negative, each.positive) for each in said]
    assert judge.judge([turned(latent) for latent in latents]) == swapped
    shuffled = [replace(each, positive=each.positive[::-1]) for each in latents]
    assert judge.judge(shuffled) == said


def test_how_far_sides_are_apart_does_not_depend_on_their_order_or_the_random_state() -> None:
    """Of many pairs of sides, some are so close to the bound that other draws would decide otherwise."""
    drawn = torch.Generator().manual_seed(1)
    for n in (2, 5, 6) * 60:
        sides = [torch.nn.functional.normalize(torch.randn(m, 3, generator=drawn).double()) for m in (n, 6)]
        sides[0] = torch.nn.functional.normalize(sides[0] + sides[1].new_tensor([1, 0, 0]))
        torch.manual_seed(n)
        said = are_apart(*sides)
        torch.manual_seed(n + 1)
        assert are_apart(*sides[::-1]) == said


def test_sides_are_apart_if_no_word_of_one_is_like_one_of_the_other() -> None:
    axis = torch.eye(6).double()
    assert are_apart(axis[:1].expand(4, 6), axis[1:2].expand(4, 6))
    assert not are_apart(axis[:1].expand(4, 6), axis[:1].expand(4, 6))


# Words and their vectors


def test_words_are_joined_where_letters_meet_in_scripts_with_case() -> None:
    tokens = ("Un", "believ", "able", ",", "\n", " no", " 東", "京", " 4", "2", "'s", "")
    words = words_of(tokens)
    shown = [" Unbelievable", ",", "\n", " no", " 東", " 京", " 4", "2", " 's", ""]
    assert [word.text for word in words] == shown
    assert [(word.start, word.end) for word in words][:3] == [(0, 3), (3, 4), (4, 5)]
    assert peaks_of([Excerpt(tokens, (0.0,) * 12, 1)]) == [" Unbelievable"]


def test_background_leaves_out_where_the_side_is_strong_too() -> None:
    tokens, values = tuple("abcdefgh"), (0.0, 0.0, -3.0, 0.0, -5.0, 0.0, 1.0, 0.0)
    spaced = tuple(f" {token}" for token in tokens)
    latent = LatentContexts(0, (), (Excerpt(spaced, values, 4),))
    assert background_of(latent) == {f" {word}": 1 for word in "abdfgh"}
    assert background_of(turned(latent)) == background_of(latent)
    both = replace(latent, positive=(Excerpt((" z", " y"), (0.0, 1.0), 1),))
    # Draws are by place, so the order of the sides must not matter.
    assert list(background_of(turned(both)).items()) == list(background_of(both).items())


def test_vectors_are_embeddings_with_a_flatter_spectrum(bench: Bench) -> None:
    vectors = WordVectors(bench.lm)  # type: ignore[arg-type]
    weights = bench.lm.model.get_input_embeddings().weight.double()  # type: ignore[union-attr]
    (nurse, dog), both = bench.lm.token_ids([" nurse", " dog"]), vectors.of([" nurse", " dog"])  # type: ignore[union-attr]
    # Brute force: the cosine under the inverse square root of the floored covariance.
    variances, directions = torch.linalg.eigh(torch.cov(weights.T))
    inner = directions * variances.clamp_min(0.05 * variances.mean()) ** -0.5 @ directions.T
    a, b = weights[nurse[0]], weights[dog[0]]
    assert float(both[0] @ both[1]) == pytest.approx(float(a @ inner @ b), rel=1e-4)
    assert vectors.of([""]).abs().sum() == 0
    assert torch.allclose(vectors.of([" nurse dog"])[0], both.mean(0))


# Accuracy and preconditions


def test_it_is_right_on_most_made_up_latents_and_knows_no_opposites(
    bench: Bench, judge: LexicalPoles
) -> None:
    found = validation(judge, bench.context(()), number=120, contexts=8, around=12)
    assert found["accuracy"][0] >= 0.85 and found["accuracy"][3] == 120
    assert found["opposites_accuracy"] == 0.5
    oracle = validation(TinyWorldPoles(), bench.context(()), number=120, contexts=8, around=12)
    assert oracle["opposites_accuracy"] >= 0.9


class Always:
    """A judge that calls every latent the same."""

    name = "always"

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def spec(self) -> dict[str, Any]:
        return {"judge": self.name, "kind": self.kind}

    def judge(self, latents: Any) -> list[PoleVerdict]:
        return [PoleVerdict(self.kind)] * len(latents)


@pytest.mark.parametrize("kind", ["opposites", "bidirectional", "none"])
def test_a_judge_that_cannot_tell_opposites_is_at_chance(bench: Bench, kind: str) -> None:
    found = validation(Always(kind), bench.context(()), number=12, contexts=3, around=4)
    assert found["opposites_accuracy"] == 0.5


def measured(bench: Bench, **options: Any) -> tuple[dict[str, float], dict[str, Any], dict[str, Any]]:
    """Scores, details and the values of preconditions."""
    task, values = Bidirectionality(**options), {}
    sae = bench.saes["signed"]
    ctx = replace(bench.context((sae,)), measured=values.__setitem__)
    with torch.no_grad():
        scores, details = parted(task, task.score(sae, task.prepare(bench.lm, ctx), bench.lm, ctx))  # type: ignore[arg-type]
    return dict(scores), details["poles"], values


def test_each_precondition_is_measured_for_every_judge(bench: Bench) -> None:
    few: dict[str, Any] = {"latents": 10, "validation": 30, "random_directions": 0}
    _, details, values = measured(bench, judge="lexical", judges=("oracle",), **few)
    assert values == {"judge_accuracy": details["validation"]["accuracy"][0], "opposites_accuracy": 0.5}
    assert [each["judge"] for each in details["agreement"]] == ["oracle"]
    _, details, values = measured(bench, judges=("lexical",), **few)
    assert values["opposites_accuracy"] >= 0.8 and details["agreement"][0]["judge"] == "lexical"
    _, _, values = measured(bench, judge="lexical", **(few | {"validation": 0}))
    assert values == {"judge_accuracy": None, "opposites_accuracy": None}


def test_listing_the_task_does_not_import_torch() -> None:
    code = "import sys, abench.tasks.bidirectionality; sys.exit('torch' in sys.modules)"
    # -P: the installed package, also if this runs in a checkout, where tasks/ is elsewhere.
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_keys_of_other_judges_stay() -> None:
    """The version and the options of a cell are in its key; their defaults are those of earlier versions."""
    assert Bidirectionality.version == "3"
    assert json.loads(Bidirectionality().model_dump_json()) == {
        "latents": 100,
        "contexts": 8,
        "around": 12,
        "judge": "auto",
        "judges": [],
        "judge_model": None,
        "judge_url": "https://api.openai.com/v1",
        "judge_key": "OPENAI_API_KEY",
        "validation": 120,
        "examples": 3,
    }


def test_it_needs_no_endpoint_and_messages_name_it(bench: Bench, tmp_path: Path) -> None:
    ctx = bench.context(())
    file = tmp_path / "x.txt"
    file.write_text("\n".join(" ".join(words) for words, i in places() if i == 0), encoding="utf-8")
    elsewhere = replace(ctx, data=ctx.data.model_copy(update={"source": "file", "dataset": str(file)}))
    skip: Any = Bidirectionality().skip
    assert "judge to 'lexical'" in skip(bench.lm, elsewhere)
    assert "or 'lexical'" in str(Bidirectionality(judge="oracle").skip(bench.lm, elsewhere))  # type: ignore[arg-type]
    assert Bidirectionality(judge="lexical").skip(bench.lm, elsewhere) is None  # type: ignore[arg-type]


def test_a_run_with_it_shows_shares_but_no_opposites(abench: Abench, tmp_path: Path) -> None:
    options = ("--model", "tiny", *SMALL, "--results", tmp_path / "results")
    judged = ("--set", "task_options.bidirectionality.judge=lexical")
    few = ("--set", "task_options.bidirectionality.latents=20", "--variants", "abstopk")
    ran = abench("run", "bidirectionality", *options, *judged, *few)
    assert ran.code == 0, ran.err
    assert "Judged by lexical" in ran.out and "the judge lexical is right in" in " ".join(ran.out.split())
    # A table that is too wide is printed in parts.
    row = " ".join(line for line in ran.out.splitlines() if " AbsTopK  " in line)
    # bidirectional, opposites, unidirectional, none, latents
    assert row.count(", ") == 3 and row.count("— [1]") == 1
    assert "telling constructed opposites from other pairs of subjects is 0.50" in " ".join(ran.out.split())


class WithLexical(Bidirectionality):
    """The task with this judge as its default."""

    judge: str = "lexical"


def test_the_task_keeps_every_rule_with_it() -> None:
    """Among them: scores do not depend on a latent's sign, on the order of latents or on units."""
    found = replace(find_tasks()["bidirectionality"], value=WithLexical)
    (verdict,) = check_found([found], {"language": Bench()})
    assert verdict.problems == [] and verdict.not_checked is None
