"""The rules for tasks hold for the built-in ones, and the check finds tasks that break them."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from command import Abench
from signed import random_sae

from abench import Amount, Context, Metric, Precondition, Scores, Skip, Task, View, residual_codes
from abench.conformance.bench import Bench
from abench.conformance.check import check_found, check_task
from abench.conformance.rewritten import Wide, flipped, permuted
from abench.plugins import FoundTask, find_tasks

BUILT_IN = {name: each for name, each in find_tasks().items() if each.source.startswith("abench.tasks")}


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


@pytest.fixture(scope="module")
def synthetic() -> Bench:
    return Bench("synthetic")


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_built_in_tasks_keep_every_rule(name: str, bench: Bench, synthetic: Bench) -> None:
    benches = {"language": bench, "synthetic": synthetic}
    (verdict,) = check_found([BUILT_IN[name]], benches)
    assert verdict.problems == []
    assert verdict.not_checked is None


class _Broken(Task):
    """A task that keeps all rules; its children break one each."""

    name: ClassVar[str] = "broken"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("score", True, headline=True),)
    views: ClassVar[tuple[View, ...]] = ("native", "split")

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Context) -> Scores:
        ctx.used(Amount("tokens", 20, 20))
        return {"score": self.value(sae.encode(_x()), sae)}

    def value(self, codes: torch.Tensor, sae: Any) -> float:
        return float((codes != 0).double().mean(0).sum())


def _x() -> torch.Tensor:
    return torch.randn(20, 128, generator=torch.Generator().manual_seed(3)) * 20


class _CountsPositive(_Broken):
    """Takes only what is above zero for active."""

    def value(self, codes: torch.Tensor, sae: Any) -> float:
        return float((codes > 0).double().sum())


class _TakesTheFirst(_Broken):
    """Looks at latent 0."""

    def value(self, codes: torch.Tensor, sae: Any) -> float:
        return float(codes[:, 0].abs().sum())


class _MeasuresPositive(_Broken):
    """Keeps all rules with its scores, but not with its precondition."""

    valid_if: ClassVar[tuple[Precondition, ...]] = (Precondition("positive", "its positive codes", 0.5),)

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Context) -> Scores:
        ctx.measured("positive", float((sae.encode(_x()) > 0).double().sum()))
        return super().score(sae, prepared, lm, ctx)


class _UnitsOfTheSAE(_Broken):
    """Means codes as the SAE gives them."""

    def value(self, codes: torch.Tensor, sae: Any) -> float:
        return float(codes.abs().mean())


class _UnitsOfTheStream(_Broken):
    """Asks at which tokens a latent moves the residual stream by a length that is written down."""

    def prepare(self, lm: Any, ctx: Context) -> Any:
        ctx.used(Amount("tokens", 100, 100))
        return lm.residual(torch.arange(5, 105)[None], ctx.site)[0]

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Context) -> Scores:
        return {"score": float((residual_codes(sae, prepared).abs() > 20).double().sum())}


class _NeedsTheClass(_Broken):
    """Uses something that SAEs of unknown classes lack."""

    def value(self, codes: torch.Tensor, sae: Any) -> float:
        return float(hasattr(sae, "b_dec"))


class _UnitsDeclared(_UnitsOfTheStream):
    """Says that its score is in units of the residual stream."""

    in_stream_units: ClassVar[frozenset[str]] = frozenset({"score"})


class _UnknownUnits(_Broken):
    """Says it of a metric it lacks."""

    in_stream_units: ClassVar[frozenset[str]] = frozenset({"scores"})


class _GlobalRandom(_Broken):
    """Draws from the global random state."""

    def value(self, codes: torch.Tensor, sae: Any) -> float:
        random.random()
        return 1.0


class _ChangesTheSAE(_Broken):
    """Leaves another SAE behind than it was given."""

    def value(self, codes: torch.Tensor, sae: Any) -> float:
        if hasattr(sae, "cfg") and isinstance(sae, torch.nn.Module):
            sae.W_enc.data.mul_(2)
        return 1.0


class _NotANumber(_Broken):
    """Gives NaN."""

    def value(self, codes: torch.Tensor, sae: Any) -> float:
        return float("nan")


class _LooksAtTheOthers(_Broken):
    """An SAE's score depends on which others are scored."""

    def prepare(self, lm: Any, ctx: Context) -> Any:
        ctx.used(Amount("SAEs", len(ctx.saes), len(ctx.saes)))
        return len(ctx.saes)

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Context) -> Scores:
        return {"score": float(prepared)}


class _Skips(_Broken):
    """Finds out only at work that it means nothing here."""

    def prepare(self, lm: Any, ctx: Context) -> Any:
        raise Skip("the model knows too little")


class _SaysNoAmount(_Broken):
    """Does not say how much data it used."""

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Context) -> Scores:
        return {"score": 1.0}


class _NoHeadline(_Broken):
    """No metric of its stands in the table."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("score", True),)


@pytest.mark.parametrize(
    ("task", "rule"),
    [
        (_CountsPositive, "flipping the sign of latents changes nothing"),
        (_MeasuresPositive, "flipping the sign of latents changes nothing: positive changes"),
        (_TakesTheFirst, "the order of latents changes nothing"),
        (_UnitsOfTheSAE, "codes in other units change nothing: score changes"),
        (_UnitsOfTheSAE, "codes in other units change nothing (layer_norm): score changes"),
        (_UnitsOfTheSAE, "codes in other units change nothing (constant_norm_rescale): score changes"),
        (_UnitsOfTheStream, "a residual stream 128 times larger changes nothing: score changes"),
        (_NeedsTheClass, "an SAE of an unknown class has the same scores: score changes"),
        (_UnknownUnits, "declaration: in_stream_units names 'scores', which is not one of its metrics"),
        (_GlobalRandom, "no global random numbers"),
        (_ChangesTheSAE, "SAEs are not modified"),
        (_NotANumber, "runs: ScoreError"),
        (_SaysNoAmount, "amounts: it does not record how much data it used"),
        (_LooksAtTheOthers, "scores do not depend on the other SAEs"),
        (_NoHeadline, "declaration: none of its metrics is a headline"),
    ],
)
def test_a_task_that_breaks_a_rule_is_found(task: type[Task], rule: str, bench: Bench) -> None:
    spoils = task is _ChangesTheSAE
    problems = check_task(task(), Bench() if spoils else bench).problems
    assert any(problem.startswith(rule) for problem in problems), problems


def test_a_task_that_keeps_them_passes_and_one_that_skips_says_why(bench: Bench) -> None:
    assert check_task(_Broken(), bench).problems == []
    assert check_task(_UnitsDeclared(), bench).problems == []
    verdict = check_task(_Skips(), bench)
    assert (verdict.problems, verdict.not_checked) == ([], "the model knows too little")


class _Slow(_Broken):
    """Would take long with its defaults."""

    name: ClassVar[str] = "slow"
    check_options: ClassVar[dict[str, Any]] = {"rounds": 1}

    rounds: int = 10**9

    def value(self, codes: torch.Tensor, sae: Any) -> float:
        if self.rounds > 1:
            raise RuntimeError("checked with its defaults")
        return 1.0


class _WrongOptions(_Slow):
    """Names an option that it does not have."""

    check_options: ClassVar[dict[str, Any]] = {"round": 1}


def test_a_task_is_checked_with_the_options_that_it_names_for_that(bench: Bench) -> None:
    found = [FoundTask(task.name, "here", task) for task in (_Slow, _WrongOptions)]
    slow, wrong = check_found(found, {"language": bench})
    assert slow.problems == []
    (problem,) = wrong.problems
    assert problem.startswith("declaration: its check_options are not valid: round: ")


def test_the_rewritten_saes_are_the_same_function() -> None:
    sae, x = random_sae(), _x()
    for other in (flipped(sae), permuted(sae)):
        torch.testing.assert_close(other.decode(other.encode(x)), sae.decode(sae.encode(x)))
        assert not torch.equal(other.W_dec, sae.W_dec)
    codes, wide = sae.encode(x), Wide(sae)
    torch.testing.assert_close(wide.encode(x), torch.cat([codes.relu(), (-codes).relu()], dim=-1))
    torch.testing.assert_close(wide.decode(wide.encode(x)), sae.decode(codes))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "broken_import.py").write_text("import nothing_of_this_name\n")
    yield tmp_path


def test_the_command_checks_and_says_what_is_wrong(abench: Abench, folder: Path) -> None:
    result = abench("new", "task", "mine", "--dir", str(folder))
    assert result.code == 0
    result = abench("list", "tasks", "--check", "--tasks-dir", str(folder), "--only", "mine,broken_import")
    assert "mine: ok (" in result.out
    assert "broken_import: breaks a rule" in result.out
    assert "nothing_of_this_name" in result.out
    assert result.code == 3
