"""Statistics against closed forms, scipy, brute force, and data of which the truth is known."""

import itertools
import math
import statistics
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from abench.statistics import (
    Polyline,
    bootstrap_interval,
    common_range,
    front_shares,
    holm,
    not_told_from_best,
    paired_permutation,
    pareto_front,
    pooled_sd,
    rank_correlation,
    smallest_difference,
    summary_of,
    t_interval,
    wins_ties_losses,
)

NUMBERS = st.floats(-100, 100).map(lambda x: round(x, 3))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Means and intervals


def test_two_values_have_the_interval_of_the_cauchy_quantile() -> None:
    # With one degree of freedom, t is Cauchy: its 97.5 % quantile is tan(0.475 π).
    summary = summary_of([1.0, 3.0])
    assert (summary.n, summary.mean, summary.sd) == (2, 2.0, math.sqrt(2))
    assert summary.interval is not None
    assert summary.interval == pytest.approx((2 - math.tan(0.475 * math.pi), 2 + math.tan(0.475 * math.pi)))


@given(st.lists(NUMBERS, min_size=2, max_size=20).filter(lambda xs: statistics.pstdev(xs) > 1e-3))
def test_the_t_interval_is_scipy_s(values: list[float]) -> None:
    expected = scipy.stats.t.interval(
        0.95, len(values) - 1, loc=np.mean(values), scale=scipy.stats.sem(values)
    )
    assert summary_of(values).interval == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_one_value_has_no_spread_and_no_interval() -> None:
    summary = summary_of([0.4])
    assert (summary.mean, summary.sd, summary.interval) == (0.4, None, None)
    assert t_interval(0.4, None, 1) is None
    assert smallest_difference(0.1, 1) is None
    with pytest.raises(ValueError, match="at least one"):
        summary_of([])


def test_95_percent_of_t_intervals_contain_the_mean() -> None:
    draws = rng().normal(3, 2, size=(5000, 4))
    inside = [low <= 3 <= high for low, high in (summary_of(list(row)).interval or () for row in draws)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)


# Resolution


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
def test_the_smallest_difference_has_a_power_of_80_percent(n: int) -> None:
    found = smallest_difference(2.0, n)
    assert found is not None
    critical = scipy.stats.t.ppf(0.975, 2 * (n - 1))
    shift = found / (2.0 * math.sqrt(2 / n))
    assert scipy.stats.nct.sf(critical, 2 * (n - 1), shift) == pytest.approx(0.8, abs=1e-6)


def test_the_smallest_difference_is_found_in_80_percent_of_simulated_experiments() -> None:
    n, sd = 5, 0.3
    shift = smallest_difference(sd, n)
    assert shift is not None
    one, other = rng(1).normal(0, sd, (4000, n)), rng(2).normal(shift, sd, (4000, n))
    p = scipy.stats.ttest_ind(one, other, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.02)
    # Many values: the textbook approximation (z(0.975) + z(0.8)) sd √(2/n).
    normal = (scipy.stats.norm.ppf(0.975) + scipy.stats.norm.ppf(0.8)) * math.sqrt(2 / 2000)
    assert smallest_difference(1.0, 2000) == pytest.approx(normal, rel=1e-3)


def test_the_pooled_deviation_weighs_by_degrees_of_freedom() -> None:
    assert pooled_sd([(1.0, 2), (3.0, 5), (100.0, 1)]) == pytest.approx(math.sqrt((1 + 9 * 4) / 5))
    assert pooled_sd([(1.0, 1)]) is None


# Bootstrap


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_bootstrap_agrees_with_scipy_s(method: Any) -> None:
    values = rng(3).exponential(2.0, size=60)
    scipys = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa" if method == "bca" else method, rng=rng(4)
    ).confidence_interval
    mine = bootstrap_interval(list(values), method=method)
    width = scipys.high - scipys.low
    assert mine is not None
    assert mine == pytest.approx((scipys.low, scipys.high), abs=0.03 * width)


def test_the_bootstrap_of_a_ratio_is_of_the_ratio_of_sums() -> None:
    below = rng(5).integers(1, 9, size=80).astype(float)
    above = 0.25 * below
    # Every item has the same ratio, so every resample has it.
    assert bootstrap_interval(list(above), list(below)) == pytest.approx((0.25, 0.25))
    above = rng(6).uniform(0, 1, size=80)
    found = bootstrap_interval(list(above), list(below), method="percentile")
    assert found is not None
    assert found.low < above.sum() / below.sum() < found.high
    assert found != bootstrap_interval(list(above / below), method="percentile")


def test_95_percent_of_bootstrap_intervals_contain_the_mean() -> None:
    draws = rng(7).normal(0, 1, size=(1000, 60))
    for method in ("bca", "percentile"):
        found = [bootstrap_interval(list(row), method=method, resamples=1000) for row in draws]  # type: ignore[arg-type]
        inside = [each is not None and each.low <= 0 <= each.high for each in found]
        assert np.mean(inside) == pytest.approx(0.945, abs=0.02)


def test_equal_items_give_equal_intervals_and_few_items_none() -> None:
    values = [float(x) for x in range(10)]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values[:7]) is None
    assert bootstrap_interval([0.5] * 10) == (0.5, 0.5)
    assert bootstrap_interval([0.0] * 10, [0.0] * 10) is None
    with pytest.raises(ValueError, match="same length"):
        bootstrap_interval(values, values[:9])


# Paired permutation


@given(st.lists(NUMBERS, min_size=1, max_size=7))
def test_few_pairs_are_enumerated_as_by_brute_force(differences: list[float]) -> None:
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    expected = np.mean([each >= abs(sum(differences)) - 1e-7 for each in sums])
    found = paired_permutation(differences)
    assert found is not None
    assert found.exact
    assert found.p == pytest.approx(expected)
    assert found.smallest == 2 ** (1 - len(differences))


def test_the_permutation_test_agrees_with_scipy_s() -> None:
    differences = rng(8).normal(0.4, 1, size=10)
    scipys = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    found = paired_permutation(list(differences))
    assert found is not None
    assert found.p == pytest.approx(scipys)
    many = rng(9).normal(0.2, 1, size=80)
    sampled = paired_permutation(list(many))
    assert sampled is not None
    assert not sampled.exact
    scipys = scipy.stats.permutation_test(
        (many,), np.mean, permutation_type="samples", n_resamples=50_000, rng=rng(10)
    ).pvalue
    assert sampled.p == pytest.approx(scipys, abs=0.01)
    assert sampled.p == paired_permutation(list(many)).p  # type: ignore[union-attr]


@pytest.mark.parametrize(("n", "experiments"), [(10, 6000), (40, 6000)])
def test_under_the_null_hypothesis_5_percent_are_called_different(n: int, experiments: int) -> None:
    """For enumerated and for sampled assignments, and for values that are far from normal."""
    # Two methods with the same heavy-tailed distribution, and a part that pairs share.
    shared = rng(11).normal(0, 5, size=(experiments, n))
    one, other = (shared + rng(seed).standard_t(2, size=(experiments, n)) for seed in (12, 13))
    tests = [paired_permutation(list(row)) for row in one - other]
    called = [test is not None and test.p <= 0.05 for test in tests]
    assert np.mean(called) == pytest.approx(0.05, abs=0.01)


def test_few_seeds_cannot_be_called_different() -> None:
    for n in (1, 2, 3, 4, 5):
        found = paired_permutation([1.0] * n)
        assert found is not None
        assert found.p == found.smallest > 0.05
    assert paired_permutation([1.0] * 6).p == 2 / 64  # type: ignore[union-attr]
    assert paired_permutation([]) is None
    assert paired_permutation([0.0, 0.0]).p == 1  # type: ignore[union-attr]


def test_wins_and_losses_follow_the_better_direction() -> None:
    assert wins_ties_losses([1.0, 2.0, 0.0, -1.0], higher_is_better=True) == (2, 1, 1)
    assert wins_ties_losses([1.0, 2.0, 0.0, -1.0], higher_is_better=False) == (1, 1, 2)


# Many tests


def test_holm_is_the_textbook_s() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_step_down_procedure_rejects(p_values: list[float]) -> None:
    rejected = set()
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] * (len(p_values) - rank) > 0.05:
            break
        rejected.add(place)
    assert {i for i, p in enumerate(holm(p_values)) if p <= 0.05} == rejected


def test_holm_keeps_the_probability_of_any_error_at_5_percent() -> None:
    p = rng(14).uniform(size=(5000, 6))
    assert np.mean([min(holm(list(row))) <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.01)


# Not told from the best


def simulated(methods: int, seeds: int, experiments: int, shift: float = 0.0) -> Any:
    """Scores of methods that share a part per seed; the first method is better by `shift`."""
    draws = rng(15).normal(0, 1, size=(experiments, methods, seeds))
    draws += rng(16).normal(0, 3, size=(experiments, 1, seeds))
    draws[:, 0] += shift
    for each in draws:
        values = {m: dict(enumerate(row)) for m, row in enumerate(each.tolist())}
        best = max(values, key=lambda m: sum(values[m].values()))
        yield best, not_told_from_best(values, best)


def test_of_two_equal_methods_5_percent_are_called_different() -> None:
    told = [not others for _, others in simulated(2, 5, 5000)]
    assert np.mean(told) == pytest.approx(0.05, abs=0.01)


def test_the_truly_best_method_is_left_out_in_at_most_5_percent() -> None:
    out = [0 not in {best, *others} for best, others in simulated(5, 4, 3000, shift=0.1)]
    assert np.mean(out) <= 0.05
    # A method that leads by far leaves the others behind.
    alone = [not others for _, others in simulated(3, 5, 200, shift=20.0)]
    assert np.mean(alone) == 1


def test_other_seeds_are_compared_as_two_samples() -> None:
    same = {"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {0: 0.9, 1: 1.89, 2: 2.91}}
    assert not_told_from_best(same, "a") == set()
    other = {"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {3: 0.9, 4: 1.89, 5: 2.91}}
    assert not_told_from_best(other, "a") == {"b"}
    for gap in np.linspace(0.5, 4, 8):
        one, two = rng(17).normal(0, 1, 4), rng(18).normal(-gap, 3, 6)
        values = {"a": dict(enumerate(one)), "b": dict(enumerate(two, start=9))}
        p = scipy.stats.ttest_ind(one, two, equal_var=False).pvalue
        assert (not_told_from_best(values, "a") == {"b"}) == (p >= 0.05)
    assert not_told_from_best({"a": {0: 1.0, 1: 2.0}, "b": {0: 1.0}}, "a") == set()


# Curves


def test_curves_are_interpolated_and_never_extrapolated() -> None:
    points = [(16.0, 4.0), (8.0, 2.0), (32.0, 5.0)]
    assert [Polyline.of(points).at(x) for x in (8, 12, 16, 20, 32)] == [2.0, 3.0, 4.0, 4.25, 5.0]
    assert Polyline.of(points).at(7.999) is None
    assert Polyline.of(points).at(32.001) is None
    assert Polyline.of([(8.0, 1.0), (8.0, 3.0)]).at(8) == 2.0
    assert Polyline.of([]).at(8) is None


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8, unique_by=lambda p: p[0]), NUMBERS)
def test_interpolation_is_numpy_s_within_the_range(points: list[tuple[float, float]], at: float) -> None:
    x, y = zip(*sorted(points), strict=True)
    found = Polyline.of(points).at(at)
    assert (found is None) == (not x[0] <= at <= x[-1])
    if found is not None:
        assert found == pytest.approx(np.interp(at, x, y), abs=1e-6)


def test_the_common_range_is_where_all_curves_are_known() -> None:
    one, other = [(4.0, 0.0), (16.0, 0.0)], [(8.0, 0.0), (32.0, 0.0)]
    assert common_range([one, other]) == (8, 16)
    assert common_range([one, [(16.0, 1.0)]]) == (16, 16)
    assert common_range([one, [(17.0, 1.0), (18.0, 1.0)]]) is None
    assert common_range([]) is None


# Pareto front


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8),
)
def test_the_front_is_the_brute_force_one(points: list[tuple[int, int]]) -> None:
    expected = [not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points) for x, y in points]
    assert pareto_front(np.array(points, dtype=float)).tolist() == expected


def test_shares_of_the_front_are_probabilities_of_the_resampled_means() -> None:
    # With two seeds, resamples hold the first twice, both, or the second twice: 1/4, 1/2, 1/4.
    a = [[1.0, 1.0], [1.0, 1.0]]
    b = [[2.0, 2.0], [0.0, 0.0]]
    shares = front_shares(np.array([a, b]))
    assert shares is not None
    # b is ahead in the first case, behind in the last, and equal to a in between: then both are on the front.
    assert shares == pytest.approx([0.75, 0.75], abs=0.03)
    assert front_shares(np.array([a, b])[:, :1]) is None
    clear = front_shares(np.array([a, [[0.0, 0.5], [0.0, 0.5]]]))
    assert clear is not None
    assert clear.tolist() == [1.0, 0.0]


# Rank correlation


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=4, max_size=9))
def test_the_rank_correlation_is_scipy_s(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    found = rank_correlation(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
        return
    assert found is not None
    assert found.rho == pytest.approx(scipy.stats.spearmanr(first, second).statistic)
    assert 0 < found.p <= 1


def test_all_orders_of_few_pairs_are_counted() -> None:
    perfect = rank_correlation([1, 2, 3, 4], [10, 20, 40, 80])
    assert perfect is not None
    assert (perfect.rho, perfect.n, perfect.p) == (pytest.approx(1), 4, 2 / 24)  # this order and its reverse
    assert perfect.interval is None
    values = [3.0, 1.0, 2.0, 5.0, 4.0]
    found = rank_correlation(range(5), values)
    every = [scipy.stats.spearmanr(range(5), order).statistic for order in itertools.permutations(values)]
    assert found is not None
    assert found.p == sum(abs(rho) >= abs(found.rho) - 1e-9 for rho in every) / 120


def test_the_interval_of_a_rank_correlation_is_the_published_formula_and_covers_the_truth() -> None:
    found = rank_correlation(range(10), [0, 1, 2, 3, 4, 5, 6, 9, 8, 7])
    assert found is not None and found.interval is not None
    z, error = math.atanh(found.rho), math.sqrt((1 + found.rho**2 / 2) / 7)
    expected = [math.tanh(z + side * 1.959964 * error) for side in (-1, 1)]
    assert found.interval == pytest.approx(expected, abs=1e-6)
    # Of normal pairs with correlation r, the true rank correlation is 6/π · asin(r / 2) (Pearson, 1907).
    covered = []
    for r in (0.0, 0.7):
        true = 6 / math.pi * math.asin(r / 2)
        first, other = rng().normal(size=(2, 300, 12))
        pairs = zip(first.tolist(), (r * first + math.sqrt(1 - r**2) * other).tolist(), strict=True)
        intervals = [each.interval for pair in pairs if (each := rank_correlation(*pair)) is not None]
        covered += [low <= true <= high for low, high in filter(None, intervals)]
    assert len(covered) == 600
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)


def test_three_pairs_have_no_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [1, 2, 3]) is None
    with pytest.raises(ValueError, match="4 values cannot be paired with 3"):
        rank_correlation([1, 2, 3, 4], [1, 2, 3])


def test_unrelated_values_are_rarely_called_related() -> None:
    """Under the null hypothesis, 5 ± 1 % are; 9 pairs, so that orders are drawn."""
    draws = rng().normal(size=(1000, 2, 9))
    found = [rank_correlation(*pair) for pair in draws.tolist()]
    assert np.mean([each is not None and each.p <= 0.05 for each in found]) == pytest.approx(0.05, abs=0.01)
