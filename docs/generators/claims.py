"""The paper's claims, each as a comparison of two variants on the model of the replication."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from abench.report.frame import Record
from abench.report.pairs import Comparison, at_equal_k

HOLDS, REVERSED, UNDECIDED = "holds", "reversed", "undecided"
OPEN, BARRED = "not computed", "cannot be scored"

Reasons = Mapping[tuple[str, str], str]
"""(Task, metric) -> why a report has no score of it that means anything."""
NO_REASONS: Reasons = MappingProxyType({})


@dataclass(frozen=True)
class Claim:
    """That one variant is better than another by a metric, at the same site, width, k and seed."""

    text: str
    paper: str
    """The paper's numbers and the model they are from; `—` where none are known."""
    task: str
    metric: str
    higher: bool
    """Whether more of the metric is what is claimed."""
    baseline: str = "topk"
    variant: str = "abstopk"


CLAIMS: Mapping[str, Sequence[Claim]] = {
    "reconstruction": (
        Claim("AbsTopK has a lower normalised MSE than TopK", "—", "core", "nmse", higher=False),
        Claim(
            "AbsTopK has a lower normalised MSE than JumpReLU",
            "—",
            "core",
            "nmse",
            False,
            baseline="jumprelu",
        ),
        Claim("AbsTopK recovers more of the loss than TopK", "—", "core", "loss_recovered_zero", higher=True),
        Claim(
            "AbsTopK recovers more of the loss than JumpReLU",
            "—",
            "core",
            "loss_recovered_zero",
            True,
            baseline="jumprelu",
        ),
    ),
    "tasks": (
        Claim(
            "SCR: AbsTopK above TopK",
            "0.35, 0.26 (Qwen3-4B, block 18)",
            "scr",
            "scr_metric_threshold_20",
            higher=True,
        ),
        Claim(
            "TPP: AbsTopK above TopK",
            "0.36, 0.31 (Qwen3-4B, block 18)",
            "tpp",
            "tpp_threshold_20_total_metric",
            higher=True,
        ),
        Claim(
            "RAVEL: AbsTopK above TopK",
            "0.81, 0.79 (Qwen3-4B, block 18)",
            "ravel",
            "disentanglement_score",
            higher=True,
        ),
        Claim(
            "Sparse probing: AbsTopK above TopK",
            "0.57, 0.61 (Pythia-70M, block 4: an exception)",
            "sparse_probing",
            "sae_top_1_test_accuracy",
            higher=True,
        ),
        Claim(
            "Absorption: less with AbsTopK than with TopK",
            "—",
            "absorption",
            "mean_absorption_fraction_score",
            higher=False,
        ),
    ),
    "unlearning": (
        Claim(
            "Unlearning: AbsTopK above TopK",
            "0.74, 0.80 (GPT-2, block 6: an exception)",
            "unlearning",
            "unlearning_score",
            higher=True,
        ),
    ),
    "safety": (
        Claim(
            "Table 1: AbsTopK is safer than TopK (HarmBench)",
            "81.3, 78.2 (Qwen3-4B, block 18)",
            "safety_utility",
            "safety",
            higher=True,
        ),
        Claim(
            "Table 1: AbsTopK keeps more utility than TopK (MMLU)",
            "75.9, 75.2 (Qwen3-4B, block 18)",
            "safety_utility",
            "utility",
            higher=True,
        ),
    ),
    "sentiment": (
        Claim(
            "One signed latent steers sentiment both ways: AbsTopK's further than TopK's",
            "not tested",
            "two_way_steering",
            "range",
            higher=True,
        ),
    ),
    "language": (
        Claim(
            "One signed latent steers language both ways: AbsTopK's further than TopK's",
            "not tested",
            "two_way_steering",
            "range",
            higher=True,
        ),
    ),
    "features": (
        Claim(
            "Table 2: more of AbsTopK's latents are bidirectional than of TopK's",
            "29.7 %, 5.3 % (Gemma-2-2B, block 12)",
            "bidirectionality",
            "bidirectional",
            higher=True,
        ),
        Claim("Table 4: AutoInterp, AbsTopK above TopK", "—", "autointerp", "detection", higher=True),
    ),
}
"""By the folder of results/reference/smollm2 with the report in which the cells are."""


def verdict_of(found: Comparison) -> str:
    """Whether the 95 % interval of the difference is on the claimed side of zero, on the other, or on both.

    One seed decides nothing.
    """
    interval = found.interval
    if interval is None or found.seeds < 2 or interval.low <= 0 <= interval.high:
        return UNDECIDED
    return HOLDS if (interval.low > 0) == found.higher_is_better else REVERSED


def compared(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """The comparisons that a claim is about, by k, in the native view."""
    only = [_with_one_metric(record, claim) for record in records if record["labels"]["task"] == claim.task]
    found, _ = at_equal_k(only, claim.baseline)
    return [each for each in found if each.series.variant == claim.variant and each.series.view == "native"]


def _with_one_metric(record: Record, claim: Claim) -> dict[str, Any]:
    """A record whose only metric is that of the claim, in the direction that is claimed."""
    metrics = [
        {**metric, "headline": True, "higher_is_better": claim.higher}
        for metric in record["metrics"]
        if metric["name"] == claim.metric
    ]
    return {**record, "metrics": metrics}


def claim_rows(
    claims: Sequence[Claim], records: Sequence[Record], reasons: Reasons = NO_REASONS
) -> Iterator[tuple[str, ...]]:
    """One row per claim and k: claim, the paper's numbers, k, ours, n, difference, verdict."""
    for claim in claims:
        found = compared(claim, records)
        text, paper = claim.text, claim.paper
        if not found:
            reason = reasons.get((claim.task, claim.metric))
            yield text, paper, "", "", "", "", OPEN if reason is None else f"**{BARRED}**: {reason}"
        for each in found:
            ours = f"{each.own:.4f}, {each.other:.4f}"
            n = f"{each.seeds} seeds" if each.seeds > 1 else "1 seed"
            yield text, paper, f"{each.place:g}", ours, n, _difference(each), f"**{verdict_of(each)}**"
            text = paper = ""


def _difference(found: Comparison) -> str:
    """The difference with its 95 % interval, and as a share of the baseline's value."""
    share = f" ({found.difference / found.other:+.1%})".replace("%", " %") if found.other else ""
    if found.interval is None:
        return f"{found.difference:+.4f}{share}"
    return f"{found.difference:+.4f} [{found.interval.low:+.4f}, {found.interval.high:+.4f}]{share}"


def verdicts(claim: Claim, records: Sequence[Record], reasons: Reasons = NO_REASONS) -> dict[str, str]:
    """Each verdict on a claim, with where it was reached (` at k = 32, 57`; empty without scores)."""
    found: dict[str, list[str]] = {}
    for each in compared(claim, records):
        found.setdefault(verdict_of(each), []).append(f"{each.place:g}")
    if not found:
        return {BARRED if (claim.task, claim.metric) in reasons else OPEN: ""}
    return {verdict: f" at k = {', '.join(at)}" for verdict, at in found.items()}


def in_words(claim: Claim, records: Sequence[Record], reasons: Reasons = NO_REASONS) -> str:
    """A claim with its verdicts, as an item of a list."""
    said = (f"**{verdict}**{where}" for verdict, where in verdicts(claim, records, reasons).items())
    return f"- {claim.text}: {'; '.join(said)}."
