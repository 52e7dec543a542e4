"""Bidirectionality: planted latents are recognised, judges and their agreement, the table and the page."""

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from abench.tasks.bidirectionality import Bidirectionality, drawn
from abench.tasks.bidirectionality.endpoint import OpenAIPoles, question, read_kind
from abench.tasks.bidirectionality.judges import kappa
from abench.tasks.bidirectionality.oracle import TinyWorldPoles, about, base_rates, kind_of, opposite_of, tail
from abench.tasks.bidirectionality.random_directions import counted, random_directions
from abench.tasks.bidirectionality.validation import made_up, validation
from chat_server import Says, chat_server, without_proxies
from command import SMALL, Abench
from paper_cells import cell
from pole_saes import AXES, planted
from signed import flipped, permuted, random_sae

from abench import Excerpt, LatentContexts, Metric, TokenRows, as_sae, ordinary, top_contexts
from abench.conformance.bench import Bench
from abench.judges import Endpoint, PoleVerdict
from abench.kept import MemoryKept
from abench.report import POLE_SHARES, write_report
from abench.task import parted


@pytest.fixture(scope="module")
def bench() -> Bench:
    bench = Bench(limit=200)
    bench._evaluation = bench._evaluation.model_copy(update={"tokens": 25_600, "batch_size": 32})
    return bench


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    without_proxies(monkeypatch)


def scored(bench: Bench, sae: Any, **options: Any) -> tuple[dict[str, float], dict[str, Any]]:
    task = Bidirectionality(**{"validation": 0} | options)
    ctx = bench.context((sae,))
    with torch.no_grad():
        result = task.score(sae, task.prepare(bench.lm, ctx), bench.lm, ctx)  # type: ignore[arg-type]
    scores, details = parted(task, result)
    return dict(scores), details["poles"]


def side(*words: str, value: float = 1.0) -> tuple[Excerpt, ...]:
    return tuple(Excerpt(("so", f" {word}"), (0.0, value), 1) for word in words)


# Planted and random latents on the bundled model


@pytest.mark.parametrize("variant", ["abstopk", "topk"])
def test_planted_axes_come_out_as_opposites(bench: Bench, variant: str) -> None:
    """Of a TopK SAE as well: its negative sides are those of the lowest pre-activations."""
    _, poles = scored(bench, planted(bench.lm, bench.site, variant))  # type: ignore[arg-type]
    assert {poles["verdicts"][str(latent)] for latent in range(len(AXES))} == {"opposites"}
    shown = {each["latent"]: each for each in poles["examples"]}
    assert all("gender" in side for side in shown[0]["about"])
    assert poles["signed"] == (variant == "abstopk")


def test_random_latents_are_about_nothing_on_both_sides(bench: Bench) -> None:
    scores, poles = scored(bench, random_sae("abstopk", width=256, k=8))
    assert scores["latents"] == 100
    assert scores["opposites"] == 0
    assert scores["bidirectional"] <= 0.05
    assert scores["none"] > 0.5
    assert poles["shares"]["none"][3] == 100


def test_scores_are_shares_that_add_up(bench: Bench) -> None:
    scores, poles = scored(bench, bench.saes["signed"], latents=50)
    assert scores["bidirectional"] + scores["unidirectional"] + scores["none"] == pytest.approx(1)
    assert scores["opposites"] <= scores["bidirectional"]
    kinds = Counter(poles["verdicts"].values())
    assert scores["none"] == kinds["none"] / 50
    assert scores["bidirectional"] == (kinds["opposites"] + kinds["bidirectional"]) / 50
    value, low, high, n = poles["shares"]["bidirectional"]
    assert low < value < high and n == 50
    assert len(json.dumps(poles)) < 60_000


def test_the_latents_drawn_do_not_depend_on_order_or_sign() -> None:
    sae = random_sae("abstopk", width=200)
    rows = {tuple(row.abs().tolist()) for row in sae.W_dec[drawn(sae.W_dec, 0)[:20]]}
    for other in (flipped(sae), permuted(sae)):
        assert {tuple(row.abs().tolist()) for row in other.W_dec[drawn(other.W_dec, 0)[:20]]} == rows
    assert sorted(drawn(sae.W_dec, 0)) == list(range(200))
    assert drawn(sae.W_dec, 0) != drawn(sae.W_dec, 1) != list(range(200))


# The oracle


def test_a_side_is_about_what_stands_at_three_quarters_of_its_peaks() -> None:
    six = ("nurse", "nurse", "nurse", "nurses", "nurse", "nurse")
    assert about(side(*six, "the", "of")) == {"profession", "profession:nurse"}
    assert about(side(*six[:5], "the", "of", "of")) == frozenset()
    assert about(side(*["of"] * 8)) == frozenset()
    assert about(()) == frozenset()


def test_what_is_frequent_anyway_counts_only_where_chance_does_not_explain_it() -> None:
    """Six singular words of eight are no wonder, eight are; six of a rare pole are one as well."""
    singular = ("is", "nurse", "dog", "was", "it", "key", "cat", "fox")
    assert "number-" in about(side(*singular))
    assert "number-" not in about(side(*singular[:6], "of", "of"))
    assert len(base_rates()) * tail(6, 8, base_rates()["number-"]) > 0.01


def test_kinds_follow_from_the_labels_of_both_sides() -> None:
    words = frozenset
    assert kind_of(words(["gender+"]), words(["gender-", "tense+"])) == "opposites"
    assert kind_of(words(["gender+"]), words(["animal"])) == "bidirectional"
    assert kind_of(words(["gender+"]), words(["gender+"])) == "unidirectional"
    assert kind_of(words(), words(["animal"])) == "unidirectional"
    assert kind_of(words(), words()) == "none"
    assert opposite_of("gender+") == "gender-" and opposite_of("animal:fox") is None


def test_base_rates_are_shares_of_words() -> None:
    assert 0.05 < base_rates()["number-"] < 0.2
    assert tail(2, 2, 0.5) == 0.25 and tail(0, 3, 0.1) == pytest.approx(1)


# Validation


def test_the_oracle_is_right_on_nearly_all_made_up_latents(bench: Bench) -> None:
    ctx = bench.context(())
    found = validation(TinyWorldPoles(), ctx, number=120, contexts=8, around=12)
    assert found["accuracy"][0] > 0.9 and found["accuracy"][3] == 120
    assert {kind: each[3] for kind, each in found["by_kind"].items()} == {
        "opposites": 20,
        "bidirectional": 20,
        "unidirectional": 40,
        "none": 40,
    }


def test_a_judge_that_always_says_the_same_is_right_on_a_third_and_asked_once(bench: Bench) -> None:
    class Stubborn:
        name = "stubborn"
        asked = 0

        def spec(self) -> dict[str, Any]:
            return {"judge": "stubborn"}

        def judge(self, latents: Any) -> list[PoleVerdict]:
            self.asked += len(latents)
            return [PoleVerdict("none")] * len(latents)

    judge, ctx = Stubborn(), bench.context(())
    first = validation(judge, ctx, number=60, contexts=4, around=5)
    assert first["accuracy"][0] == pytest.approx(1 / 3)
    assert validation(judge, ctx, number=60, contexts=4, around=5) == first
    assert judge.asked == 60
    validation(judge, ctx, number=30, contexts=4, around=5)
    assert judge.asked == 90


def test_made_up_latents_are_those_of_their_seed() -> None:
    one = made_up(12, contexts=4, around=5, seed=0)
    assert one == made_up(12, contexts=4, around=5, seed=0)
    assert one != made_up(12, contexts=4, around=5, seed=1)
    for _, latent in one:
        assert all(each.value > 0 for each in latent.positive)
        assert all(each.value < 0 for each in latent.negative)


# A model behind an endpoint


def answering(answer: str, latents: list[LatentContexts], **_: Any) -> tuple[list[str], int]:
    with chat_server(Says(answer)) as server:
        judge = OpenAIPoles(Endpoint("m", server.base_url), MemoryKept(), lambda _: None)
        kinds: list[str] = [verdict.kind for verdict in judge.judge(latents)]
        judge.judge(latents)
    return kinds, len(server.asked)


@pytest.mark.parametrize(
    ("answer", "kind", "asked"),
    [
        ("OPPOSITES", "opposites", 1),
        ("Bidirectional.", "bidirectional", 1),
        ("**none**", "none", 1),
        ("Side A is coherent, so UNIDIRECTIONAL", "invalid", 2),
        ("", "invalid", 2),
    ],
)
def test_answers_are_read_strictly_and_kept(answer: str, kind: str, asked: int) -> None:
    latent = LatentContexts(0, side("dog"), side("cat", value=-1.0))
    assert answering(answer, [latent]) == ([kind], asked)
    assert read_kind(answer) == (None if kind == "invalid" else kind)


def test_the_question_shows_both_sides_and_does_not_depend_on_the_sign() -> None:
    strong, weak = side("dog", "fox", value=9.0), side("{b}", value=2.0)
    negative = side("{b}", value=-2.0)
    asked = question(LatentContexts(0, strong, negative))[0]["content"]
    turned = question(LatentContexts(0, weak, side("dog", "fox", value=-9.0)))[0]["content"]
    assert asked == turned
    assert "<side_a>\n1. so <<dog|10>>\n2. so <<fox|10>>\n</side_a>" in asked
    assert "<side_b>\n1. so <<{b}|10>>\n</side_b>" in asked
    assert "never active" in question(LatentContexts(0, strong, ()))[0]["content"]


def test_an_endpoint_s_model_judges_a_task_and_invalid_answers_are_counted(bench: Bench) -> None:
    def answer(_request: dict[str, Any], n: int) -> Says:
        # The first latent's two answers cannot be read.
        return Says("well" if n < 2 else ["OPPOSITES", "NONE"][n % 2])

    with chat_server(answer) as server:
        scores, poles = scored(
            bench,
            bench.saes["plain"],
            latents=9,
            random_directions=0,
            judge="openai",
            judge_model="m",
            judge_url=server.base_url,
            judges=("oracle",),
        )
    assert (scores["latents"], poles["invalid"], poles["judge"]) == (8, 1, "m")
    assert scores["opposites"] == scores["bidirectional"] == scores["none"] == 0.5
    (other,) = poles["agreement"]
    assert (other["judge"], other["n"]) == ("oracle", 8)
    assert -1 <= other.get("kappa", 0) < 1


def test_several_latents_are_asked_about_at_once_and_verdicts_keep_their_order() -> None:
    words = ("dog", "fox", "cat", "key", "cup", "hat")
    latents = [LatentContexts(n, side(word), ()) for n, word in enumerate(words)]

    def answer(request: dict[str, Any], n: int) -> Says:
        fox = "<<fox|" in request["messages"][0]["content"]
        return Says("OPPOSITES" if fox else "NONE", seconds=0.4 - 0.05 * n)

    with chat_server(answer) as server:
        judge = OpenAIPoles(Endpoint("m", server.base_url, parallel=3), MemoryKept(), lambda _: None)
        kinds = [verdict.kind for verdict in judge.judge(latents)]
    assert kinds == ["none", "opposites", *["none"] * 4]
    assert (server.most_under_way, len(server.asked)) == (3, 6)


def test_how_many_are_asked_at_once_is_in_no_key() -> None:
    assert Bidirectionality(judge_parallel=1).model_dump() == Bidirectionality(judge_parallel=9).model_dump()
    with pytest.raises(ValueError, match="judge_parallel"):
        Bidirectionality(judge_parallel=0)


def test_a_judge_that_cannot_be_had_is_a_reason(bench: Bench) -> None:
    ctx = bench.context(())
    elsewhere = replace(ctx, data=ctx.data.model_copy(update={"source": "file", "dataset": "x.txt"}))
    assert Bidirectionality().skip(bench.lm, ctx) is None  # type: ignore[arg-type]
    assert "judge_model" in str(Bidirectionality().skip(bench.lm, elsewhere))  # type: ignore[arg-type]
    assert "judge_model" in str(Bidirectionality(judges=("openai",)).skip(bench.lm, ctx))  # type: ignore[arg-type]
    assert Bidirectionality(judges=("openai:m",)).skip(bench.lm, ctx) is None  # type: ignore[arg-type]
    assert "oracle" in str(Bidirectionality(judge="oracle").skip(bench.lm, elsewhere))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no judge 'dice'"):
        Bidirectionality(judges=("dice",))


def test_kappa_is_cohen_s() -> None:
    from sklearn.metrics import cohen_kappa_score

    first: list[Any] = ["none", "none", "opposites", "unidirectional", "none", "bidirectional"]
    second: list[Any] = ["none", "opposites", "opposites", "unidirectional", "none", "none"]
    assert kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))
    assert kappa(first, first) == 1
    assert kappa(["none"] * 3, ["none"] * 3) is None
    assert kappa([], []) is None


# Random directions


def test_random_directions_are_uniform_and_their_contexts_those_of_projections(bench: Bench) -> None:
    ctx = bench.context(())
    lm, site = bench.lm, ctx.site
    rows = TokenRows(lm, ctx.data, "held_out", ctx.context_size).batch(64)
    found = random_directions(40, lm, rows, site, seed=3)
    again = random_directions(40, lm, rows, site, seed=3)
    assert torch.equal(found.W_dec, again.W_dec)
    assert not torch.equal(found.W_dec, random_directions(40, lm, rows, site, seed=4).W_dec)
    assert found.W_dec.norm(dim=1) == pytest.approx(torch.ones(40).numpy(), abs=1e-5)
    # The mean of 40 uniform unit vectors has length about 1/√40 = 0.16; cosines have sd 1/√d.
    assert found.W_dec.mean(0).norm() == pytest.approx(40**-0.5, rel=0.3)
    usual = ordinary(rows, lm)
    x = lm.residual(rows, site).float()
    codes = (x - x[usual].mean(0)) @ found.W_dec.T
    assert codes[usual].mean(0).abs().max() < 1e-2 * codes[usual].std()
    top = top_contexts(lm, rows, site=site, saes=(as_sae(found),), latents=lambda sae: range(40), number=3)
    for latent in top(as_sae(found)).latents:
        strengths = codes[..., latent.latent].masked_fill(~usual, 0)
        for excerpts, sign in ((latent.positive, 1), (latent.negative, -1)):
            peaks = (sign * strengths).max(1)
            best = peaks.values.argsort(descending=True)[:3]
            assert [(each.row, each.position) for each in excerpts] == [
                (int(row), int(peaks.indices[row])) for row in best
            ]


def test_the_baseline_is_the_judge_s_and_changes_no_score(bench: Bench) -> None:
    sae = random_sae(seed=5)
    scores, poles = scored(bench, sae, latents=20)
    assert poles["random"]["none"][3] == 20
    assert sum(poles["random"][kind][0] for kind in ("bidirectional", "unidirectional", "none")) == 1
    assert scored(bench, flipped(sae), latents=20)[1]["random"] == poles["random"]
    without, details = scored(bench, sae, latents=20, random_directions=0)
    assert (without, details["random"]) == (scores, None)
    assert Bidirectionality().model_dump() == Bidirectionality(random_directions=7).model_dump()


class Unreadable:
    """A judge whose answers cannot be read, apart from the first `readable`."""

    name = "unreadable"

    def __init__(self, readable: int) -> None:
        self.readable = readable

    def spec(self) -> dict[str, Any]:
        return {}

    def judge(self, latents: Any) -> list[PoleVerdict]:
        return [PoleVerdict("opposites" if i < self.readable else "invalid") for i in range(len(latents))]


def test_answers_that_cannot_be_read_are_not_in_the_baseline() -> None:
    latents = [latent for _, latent in made_up(6, contexts=3, around=2, seed=0)]
    found = counted(Unreadable(2), latents)
    assert found is not None
    assert {kind: (each[0], each[3]) for kind, each in found.items()} == {
        "opposites": (1, 2),
        "bidirectional": (1, 2),
        "unidirectional": (0, 2),
        "none": (0, 2),
    }
    assert counted(Unreadable(0), latents) is None


# Table, figure, page


def kept(bidirectional: float, n: int = 100, **changes: Any) -> dict[str, Any]:
    def share(value: float) -> list[float]:
        return [value, value - 0.05, value + 0.05, n]

    shares = {"opposites": bidirectional / 2, "bidirectional": bidirectional, "unidirectional": 0.5}
    shares["none"] = 0.5 - bidirectional
    excerpt = {"tokens": ["<b>", " &amp;\n"], "values": [4.0, -1.0], "peak": 0}
    latent = {"latent": 3, "kind": "none", "about": ["<i>", ""], "positive": [excerpt], "negative": []}
    validation = {"accuracy": [0.96, 0.9, 0.99, 120], "by_kind": {"none": [1.0, 0.9, 1.0, 40]}}
    poles = {"judge": "oracle", "shares": {k: share(v) for k, v in shares.items()}, "invalid": 0}
    poles |= {"signed": True, "contexts": 8, "agreement": [], "validation": validation, "examples": [latent]}
    return {"poles": poles | changes}


def judged(share: float, **labels: Any) -> dict[str, Any]:
    changes = labels.pop("changes", {})
    found = cell("scr", {}, **labels)
    found["labels"] |= {"task": "bidirectionality"}
    # No headline, so that the tables are those of the task's own details alone.
    metrics = [asdict(Metric("share", None))]
    return found | {"metrics": metrics, "scores": {"share": share}, "details": kept(share, **changes)}


def test_the_table_has_intervals_the_judge_s_accuracy_and_the_paper_s_rows(tmp_path: Path) -> None:
    site = {"model": "gemma-2-2b", "site": "blocks.12.hook_resid_post"}
    cells = [judged(0.2, variant="abstopk", **site), judged(0.1, **site, changes={"signed": False})]
    text = write_report(cells, {}, tmp_path / "r", title="t").text(160)
    assert "20.0 [15.0, 25.0]" in text
    assert "96.0 % [90.0, 99.0]" in text and "on 120 constructed latents" in text
    row = next(line for line in text.splitlines() if "AbsTopK (paper)" in line)
    assert row.split()[-4:] == ["29.7", "20.2", "56.4", "13.9"]
    assert "lowest pre-activations" in text
    elsewhere = [judged(0.2, model="gemma-2-2b", site="blocks.13.hook_resid_post")]
    assert "(paper)" not in write_report(elsewhere, {}, tmp_path / "e", title="t").text()


def test_the_table_names_random_directions_and_undertrained_saes(tmp_path: Path) -> None:
    cells = [judged(0.2, variant="abstopk") | {"about": {"tokens": 640}}, judged(0.1)]
    cells[1] |= {"about": {"tokens": 64 * 90}}
    text = " ".join(write_report(cells, {}, tmp_path / "r", title="t").text(160).split())
    assert "compare with the baseline of random directions" in text
    assert "Undertrained: AbsTopK saw 640 tokens, 10 per latent" in text
    assert "Undertrained: TopK" not in text


def test_a_measured_baseline_is_a_row_of_its_own(tmp_path: Path) -> None:
    shares = {"opposites": [0.0, 0.0, 0.1, 40], "bidirectional": [0.025, 0.004, 0.13, 40]}
    shares |= {"unidirectional": [0.35, 0.2, 0.5, 40], "none": [0.625, 0.5, 0.75, 40]}
    cells = [judged(0.2, changes={"random": shares}), judged(0.1, seed=1, changes={"random": shares})]
    text = write_report(cells, {}, tmp_path / "r", title="t").text(160)
    (row,) = (line for line in text.splitlines() if "Random directions  " in line)
    assert "2.5 [0.4, 13.0]" in row and "62.5 [50.0, 75.0]" in row and row.split()[-1] == "40"
    assert "the baseline of all columns" in text and "(paper)" not in text
    # Verdicts of a judge that cannot tell are shown for neither.
    condition = {"name": "judge_accuracy", "title": "the accuracy", "description": ""}
    condition |= {"at_least": 0.8, "value": 0.4, "metrics": list(shares)}
    metrics, scores = [asdict(Metric(kind, None)) for kind in shares], dict.fromkeys(shares, 0.1)
    bad = [each | {"valid_if": [condition], "metrics": metrics, "scores": scores} for each in cells]
    text = write_report(bad, {}, tmp_path / "b", title="t").text(160)
    (row,) = (line for line in text.splitlines() if "Random directions " in line and ":" not in line)
    assert row.split() == ["Random", "directions", "—", "—", "—", "—", "40"]


def test_the_baseline_is_the_last_bar_in_grey_with_intervals(tmp_path: Path) -> None:
    import pandas as pd
    from matplotlib.colors import to_hex

    shares = {"opposites": [0.01, 0.0, 0.1, 40], "bidirectional": [0.025, 0.004, 0.13, 40]}
    shares |= {"unidirectional": [0.35, 0.2, 0.5, 40], "none": [0.625, 0.5, 0.75, 40]}
    cells = [judged(0.2, variant=name, changes={"random": shares}) for name in ("topk", "abstopk")]
    write_report(cells, {}, tmp_path / "r", title="t")
    parts = pd.read_csv(tmp_path / "r" / "bidirectionality.csv")
    assert parts["variant"].unique().tolist() == ["abstopk", "topk", "random"]
    random = parts[parts["variant"] == "random"].set_index("part")
    assert random["mean"].tolist() == pytest.approx([1, 1.5, 35, 62.5])
    # The upper ends are the shares of opposites and of bidirectional latents, and what is not `none`.
    ends = random[["top_low", "top_high"]].iloc[:3].to_numpy().ravel().tolist()
    assert ends == pytest.approx([0, 10, 0.4, 13, 25, 50])
    assert parts[parts["variant"] != "random"]["top_low"].isna().all()
    figure = POLE_SHARES.draw(POLE_SHARES.points(cells), "t", {})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()][-1] == "Random\ndirections"
    last = [bar for bar in axes.patches if bar.get_x() > 1.5]
    assert [bar.get_height() for bar in last] == pytest.approx([1, 1.5, 35, 62.5])
    assert all(len({*to_hex(bar.get_facecolor())[1::2]}) == 1 for bar in last)
    assert [end for line in axes.lines for end in line.get_ydata()] == pytest.approx([0, 10, 0.4, 13, 25, 50])


def test_a_baseline_alone_has_no_figure() -> None:
    shares = {kind: [0.25, 0.1, 0.4, 40] for kind in ("opposites", "bidirectional", "unidirectional", "none")}
    failed = judged(0.2, seed=1) | {"status": "failed", "details": {}}
    assert len(POLE_SHARES.points([judged(0.2, changes={"random": shares}), failed])) == 0


def test_without_opposites_bidirectional_latents_are_one_part() -> None:
    unmet = {"name": "opposites_accuracy", "title": "T", "value": 0.5, "at_least": 0.8, "note": ""}
    cells = [judged(0.2, variant="abstopk"), judged(0.4)]
    cells[1]["valid_if"] = [{**unmet, "metrics": ["opposites"]}]
    points = POLE_SHARES.points(cells)
    assert points["part"].tolist() == 2 * ["bidirectional", "unidirectional", "none"]
    assert points.groupby("variant")["mean"].sum().tolist() == pytest.approx([100, 100])
    (legend,) = POLE_SHARES.draw(points, "t", {}).legends
    assert [text.get_text() for text in legend.get_texts()] == ["bidirectional", "unidirectional", "none"]
    cells[1]["valid_if"] = [{**unmet, "metrics": ["bidirectional"]}]
    assert set(POLE_SHARES.points(cells)["variant"]) == {"abstopk"}


def test_over_seeds_the_table_has_mean_and_sd_and_the_figure_the_same(tmp_path: Path) -> None:
    import pandas as pd

    cells = [judged(share, seed=seed) for seed, share in enumerate((0.1, 0.2, 0.3))]
    report = write_report(cells, {}, tmp_path / "r", title="t")
    assert "20.0 ± 10.0" in report.text()
    assert {"bidirectionality.png", "bidirectionality.pdf"} <= {file.name for file in report.files}
    parts = pd.read_csv(report.folder / "bidirectionality.csv").set_index("part")
    assert parts["mean"].sum() == pytest.approx(100)
    assert parts.loc["opposites", "mean"] == pytest.approx(10)
    assert parts.loc["none", "sd"] == pytest.approx(10)
    assert (parts["latents"] == 300).all()


def test_two_seeds_are_averaged_with_their_spread_and_the_judge_s_accuracy_stands_below(
    tmp_path: Path,
) -> None:
    site = {"model": "gemma-2-2b", "site": "blocks.12.hook_resid_post", "variant": "abstopk"}
    report = write_report(
        [judged(share, seed=seed, **site) for seed, share in enumerate((0.2, 0.3))],
        {},
        tmp_path / "r",
        title="t",
    )
    text = report.text(160)
    (row,) = (line.split() for line in text.splitlines() if " AbsTopK  " in line)
    assert row[:3] == ["8", "AbsTopK", "2"]
    # 20 and 30: mean 25, sample standard deviation √50.
    assert "25.0 ± 7.1 12.5 ± 3.5 50.0 ± 0.0 25.0 ± 7.1 200" in " ".join(row)
    assert "sample standard deviation over seeds" in text
    assert text.count("on 120 constructed latents") == 1 and "96.0 % [90.0, 99.0]" in text
    assert "In brackets" not in text and "(paper)" in text
    assert "25.0" in (report.folder / "index.html").read_text(encoding="utf-8")


def test_a_row_that_lacks_a_seed_has_no_mean(tmp_path: Path) -> None:
    cells = [judged(0.2, seed=0), judged(0.3, seed=1), judged(0.1, variant="abstopk")]
    cells[1] |= {"status": "failed", "details": {}, "reason": "the judge is ill"}
    report = write_report(cells, {}, tmp_path / "r", title="t")
    text = report.text(160)
    (row,) = (line.split() for line in text.splitlines() if " TopK  " in line)
    assert row == ["8", "TopK", "1", "1/2", "1/2", "1/2", "1/2", "100"]
    assert "no mean is computed over fewer seeds than planned" in text
    bars = (report.folder / "bidirectionality.csv").read_text()
    assert "abstopk" in bars and ",topk," not in bars


def test_the_page_escapes_tokens_and_shades_by_sign(tmp_path: Path) -> None:
    report = write_report([judged(0.2)], {}, tmp_path / "r", title="t")
    page = report.index.read_text(encoding="utf-8")
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert " &amp;amp;↵" in page
    assert "&lt;i&gt;" in page and "<i>" not in page
    assert 'class="peak" style="background: rgba(213, 94, 0, 0.75)"' in page
    assert "rgba(0, 114, 178, 0.19)" in page


def test_invalid_answers_and_agreement_stand_below_the_table(tmp_path: Path) -> None:
    agreement = [{"judge": "other", "n": 90, "kappa": 0.61}]
    cells = [judged(0.2, changes={"invalid": 4, "agreement": agreement})]
    text = write_report(cells, {}, tmp_path / "r", title="t").text(160)
    assert "4 answers" in text
    assert "Cohen's kappa 0.61, 90 latents" in text


def test_the_shipped_run_prints_table_2(abench: Abench, tmp_path: Path) -> None:
    options = ("--model", "tiny", *SMALL, "--results", tmp_path / "results")
    ran = abench("run", "bidirectionality", *options)
    assert ran.code == 0, ran.err
    assert "of which opposites, %" in ran.out
    assert "constructed latents" in ran.out
    page = (tmp_path / "results/reports/bidirectionality/index.html").read_text(encoding="utf-8")
    assert "Latents of each kind" in page
    again = abench("report", "bidirectionality", *options).out
    assert ran.out.startswith(again.partition("Report:")[0])
