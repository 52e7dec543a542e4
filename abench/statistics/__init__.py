"""How surely a number is known: intervals, resolvable differences, tests, fronts. Numbers only; no I/O.

Formulas and sources are in docs/statistics.md. All random numbers come from a fixed seed, so that equal data
give equal results. Quantiles come from scipy.special, whose import takes a fraction of that of scipy.stats.
"""

from abench.statistics.bootstrap import bootstrap_interval
from abench.statistics.curves import Polyline, common_range
from abench.statistics.front import front_shares, pareto_front
from abench.statistics.multiple import holm
from abench.statistics.paired import paired_permutation, wins_ties_losses
from abench.statistics.permutation import Permutation
from abench.statistics.ranks import RankCorrelation, rank_correlation
from abench.statistics.resolution import pooled_sd, smallest_difference
from abench.statistics.selection import not_told_from_best
from abench.statistics.summary import Interval, Summary, summary_of, t_interval

__all__ = [
    "Interval",
    "Permutation",
    "Polyline",
    "RankCorrelation",
    "Summary",
    "bootstrap_interval",
    "common_range",
    "front_shares",
    "holm",
    "not_told_from_best",
    "paired_permutation",
    "pareto_front",
    "pooled_sd",
    "rank_correlation",
    "smallest_difference",
    "summary_of",
    "t_interval",
    "wins_ties_losses",
]
