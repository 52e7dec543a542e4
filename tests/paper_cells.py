"""Made-up cells of the paper's tasks, as a store hands them over; no model behind them."""

import hashlib
from typing import Any

import numpy as np

PAPER = {
    "sparse_probing": [("sae_top_1_test_accuracy", True, "score")],
    "scr": [("scr_metric_threshold_20", True, "score")],
    "tpp": [("tpp_threshold_20_total_metric", True, "score")],
    "absorption": [
        ("mean_absorption_fraction_score", False, "1 - score"),
        ("mean_full_absorption_score", False, None),
    ],
    "ravel": [("disentanglement_score", True, "score"), ("cause_score", True, None)],
    "unlearning": [("unlearning_score", True, "1 - score")],
}
"""Task -> metrics: name, whether higher is better, how the paper's table shows it."""

SIGNED = ("abstopk", "batchabstopk", "absjumprelu", "absmatryoshka", "multistep", "signedtopk")


def metrics_of(task: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "title": name.split("_")[0], "description": f"What {name} is.", "headline": True}
        | {"higher_is_better": better, "paper": paper}
        for name, better, paper in PAPER.get(task, ())
    ]


def cell(task: str, scores: dict[str, float] | None = None, **fields: Any) -> dict[str, Any]:
    """One cell of a task; keyword arguments are labels, or fields of the record. Failed without scores."""
    labels = {"model": "tiny", "site": "blocks.2.hook_resid_post", "variant": "topk", "k": 8, "width": 64}
    labels |= {"seed": 0, "task": task, "task_version": "1", "view": "native"}
    labels |= {name: fields.pop(name) for name in list(fields) if name in labels}
    text = repr(sorted(labels.items()))
    return {
        "schema": 1,
        "key": hashlib.sha256(text.encode()).hexdigest(),
        "status": "failed" if scores is None else "done",
        "labels": labels,
        "metrics": metrics_of(task),
        "scores": scores or {},
        "reason": None,
        "limited": False,
        "sae_key": hashlib.sha256(repr([labels[n] for n in ("variant", "k", "seed")]).encode()).hexdigest(),
        "provenance": {"seconds": 1.5, "device": "cpu", "host": "here", "packages": {"torch": "2.9"}},
    } | fields


def run_of(
    variants: tuple[str, ...] = ("abstopk", "topk", "jumprelu"),
    ks: tuple[int, ...] = (8,),
    seeds: int = 3,
    tasks: tuple[str, ...] = tuple(PAPER),
    **labels: Any,
) -> list[dict[str, Any]]:
    """Cells of a whole run; signed variants in both views."""
    return [
        cell(task, _scores(task, [i, k, seed, v]), variant=variant, k=k, seed=seed, view=view, **labels)
        for task in tasks
        for i, variant in enumerate(variants)
        for k in ks
        for seed in range(seeds)
        for v, view in enumerate(("native", "split") if variant in SIGNED else ("native",))
    ]


def _scores(task: str, place: list[int]) -> dict[str, float]:
    draw = np.random.default_rng([sorted(PAPER).index(task), *place])
    middle = {"sparse_probing": 0.8, "absorption": 0.2, "ravel": 0.6, "unlearning": 0.05}.get(task, 0.3)
    return {name: float(middle + draw.normal(0, 0.02)) for name, _, _ in PAPER[task]}
