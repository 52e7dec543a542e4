"""From the scores of abench's tasks to the metrics of sae-bench's evaluations.

Only numbers with the same definition are taken over. Definitions: sae-bench 0.6.0, `evals/*/eval_output.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from math import nan
from typing import Any

Cell = Mapping[str, Any]
"""A cell's record (`abench.results.records.Record`) as a mapping."""


@dataclass(frozen=True)
class Converted:
    """A cell in the terms of one of sae-bench's evaluations."""

    output: type[Any]
    """sae-bench's class of result files."""
    config: type[Any]
    settings: Mapping[str, Any]
    """The fields of the configuration that this cell determines."""
    metrics: Any
    details: tuple[Any, ...] = ()
    not_measured: tuple[str, ...] = ()
    """Metrics that are NaN because abench does not measure them."""


@dataclass(frozen=True)
class SAEBenchTask:
    """One of sae-bench's evaluations that abench has too."""

    name: str
    """The folder of its result files, from which sae-bench's plots tell what is in them."""
    convert: Callable[[Cell], Converted]
    split: bool = True
    """Whether abench scores signed SAEs in the split view too."""
    needs: tuple[str, ...] = ()
    """Details without which required metrics cannot be stated."""

    def missing(self, cell: Cell) -> str | None:
        """What a cell lacks to be exported; None if nothing."""
        absent = [name for name in self.needs if name not in cell["details"]]
        return f"{', '.join(absent)}, which sae-bench requires" if absent else None


def configuration(converted: Converted, cell: Cell) -> Any:
    """sae-bench's configuration with everything that the cell determines."""
    common = {
        "model_name": cell["labels"]["model"],
        "llm_dtype": cell["spec"]["sae"]["model"]["dtype"],
        "llm_batch_size": cell["spec"]["evaluation"]["batch_size"],
        "random_seed": cell["spec"]["evaluation"]["seed"],
    }
    known = {field.name for field in fields(converted.config)}
    given = {**common, **converted.settings}
    return converted.config(**{name: value for name, value in given.items() if name in known})


def _module(name: str) -> Any:
    return import_module(f"sae_bench.evals.{name}.eval_output")


def _config(name: str, kind: str) -> Any:
    return getattr(import_module(f"sae_bench.evals.{name}.eval_config"), kind)


def _named(kind: type[Any], values: Mapping[str, Any], **others: Any) -> Any:
    """An instance of a class of metrics from the values that it has a field for; optional ones stay None."""
    return kind(**others, **{each.name: values[each.name] for each in fields(kind) if each.name in values})


def _core(cell: Cell) -> Converted:
    module, scores, spec = _module("core"), cell["scores"], cell["spec"]
    tokens = sum(each["used"] for each in cell["used"] if each["what"] == "held-out tokens")
    known = {
        "ce_loss_score": scores["loss_recovered_zero"],
        "ce_loss_with_ablation": scores["ce_zero"],
        "ce_loss_with_sae": scores["ce_sae"],
        "ce_loss_without_sae": scores["ce_clean"],
        "kl_div_with_sae": scores["kl"],
        "explained_variance": scores["explained_variance"],
        "l0": scores["l0"],
        "frac_alive": 1 - scores["dead_fraction"],
        "total_tokens_eval_reconstruction": tokens,
        "total_tokens_eval_sparsity_variance": tokens,
    }
    categories = {
        "model_behavior_preservation": module.ModelBehaviorPreservationMetrics,
        "model_performance_preservation": module.ModelPerformancePreservationMetrics,
        "reconstruction_quality": module.ReconstructionQualityMetrics,
        "shrinkage": module.ShrinkageMetrics,
        "sparsity": module.SparsityMetrics,
        "token_stats": module.TokenStatsMetrics,
        "misc_metrics": module.MiscMetrics,
    }
    absent = [each.name for kind in categories.values() for each in fields(kind) if each.name not in known]
    values = {**known, **dict.fromkeys(absent, nan)}
    data, context, batch = (
        spec["sae"]["data"],
        spec["sae"]["model"]["context"],
        spec["evaluation"]["batch_size"],
    )
    batches = -(-tokens // (context * batch))
    settings = {
        "dataset": data["dataset"] or data["source"],
        "context_size": context,
        "batch_size_prompts": batch,
        "n_eval_reconstruction_batches": batches,
        "n_eval_sparsity_variance_batches": batches,
        "exclude_special_tokens_from_reconstruction": True,
        **dict.fromkeys(("compute_kl", "compute_ce_loss", "compute_sparsity_metrics"), True),
        "compute_variance_metrics": True,
    }
    metrics = module.CoreMetricCategories(**{name: _named(kind, values) for name, kind in categories.items()})
    config = _config("core", "CoreEvalConfig")
    return Converted(module.CoreEvalOutput, config, settings, metrics, not_measured=tuple(absent))


def _sparse_probing(cell: Cell) -> Converted:
    module, options = _module("sparse_probing"), cell["spec"]["task"]["options"]
    scores, data_sets = cell["scores"], cell["details"].get("datasets", {})
    metrics = module.SparseProbingMetricCategories(
        llm=_named(module.SparseProbingLlmMetrics, scores), sae=_named(module.SparseProbingSaeMetrics, scores)
    )
    details = tuple(
        _named(module.SparseProbingResultDetail, each, dataset_name=name) for name, each in data_sets.items()
    )
    sizes = _set(probe_train_set_size=options["train_texts"], probe_test_set_size=options["test_texts"])
    settings = {"dataset_names": list(data_sets), "context_length": options["context"], **sizes}
    config = _config("sparse_probing", "SparseProbingEvalConfig")
    return Converted(module.SparseProbingEvalOutput, config, settings, metrics, details)


def _ablation_settings(cell: Cell, *, scr: bool) -> dict[str, Any]:
    options = cell["spec"]["task"]["options"]
    return {
        "perform_scr": scr,
        "dataset_names": _used(cell, "data sets"),
        "context_length": options["context"],
        "probe_epochs": options["probe_epochs"],
        "probe_train_batch_size": options["probe_batch_size"],
        "probe_lr": options["probe_lr"],
        "probe_l1_penalty": options["probe_l1"],
        "early_stopping_patience": options["probe_patience"],
        **_set(train_set_size=options["train"], test_set_size=options["test"]),
    }


def _scr(cell: Cell) -> Converted:
    module = _module("scr_and_tpp")
    details = tuple(
        _named(module.ScrResultDetail, _of_pair(each["scores"]), dataset_name=name)
        for name, each in cell["details"].get("pairs", {}).items()
    )
    metrics = module.ScrMetricCategories(scr_metrics=_named(module.ScrMetrics, cell["scores"]))
    config = _config("scr_and_tpp", "ScrAndTppEvalConfig")
    return Converted(module.ScrEvalOutput, config, _ablation_settings(cell, scr=True), metrics, details)


def _of_pair(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"scr_{part}_threshold_{n}": v for part, each in scores.items() for n, v in each.items()}


def _tpp(cell: Cell) -> Converted:
    module = _module("scr_and_tpp")
    details = tuple(
        _named(module.TppResultDetail, _of_data_set(each["drops"]), dataset_name=name)
        for name, each in cell["details"].items()
    )
    metrics = module.TppMetricCategories(tpp_metrics=_named(module.TppMetrics, cell["scores"]))
    config = _config("scr_and_tpp", "ScrAndTppEvalConfig")
    return Converted(module.TppEvalOutput, config, _ablation_settings(cell, scr=False), metrics, details)


def _of_data_set(drops: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"tpp_threshold_{n}_{part}": v for n, each in drops.items() for part, v in each.items()}


_SPREAD = ("std_dev_absorption_fraction_score", "std_dev_full_absorption_score", "std_dev_num_split_features")


def _absorption(cell: Cell) -> Converted:
    module, options = _module("absorption"), cell["spec"]["task"]["options"]
    spread = {name: cell["details"][name] for name in _SPREAD}
    mean = _named(module.AbsorptionMeanMetrics, {**cell["scores"], **spread})
    details = tuple(
        module.AbsorptionResultDetail(
            first_letter=letter,
            mean_absorption_fraction=each["mean_absorption_fraction"],
            full_absorption_rate=each["full_absorption_rate"],
            num_full_absorption=round(each["full_absorption_rate"] * each["words"]),
            num_probe_true_positives=each["words"],
            num_split_features=len(each["latents"]),
        )
        for letter, each in cell["details"].get("letters", {}).items()
    )
    settings = {
        "f1_jump_threshold": options["f1_jump"],
        "max_k_value": options["max_k"],
        "k_sparse_probe_l1_decay": options["l1_decay"],
        "k_sparse_probe_num_epochs": options["epochs"],
        **_set(
            min_GT_probe_f1=options["min_probe_f1"],
            min_feats_for_eval=options["min_letters"],
            k_sparse_probe_batch_size=options["batch_size"],
        ),
    }
    config = _config("absorption", "AbsorptionEvalConfig")
    metrics = module.AbsorptionMetricCategories(mean=mean)
    return Converted(module.AbsorptionEvalOutput, config, settings, metrics, details)


def _ravel(cell: Cell) -> Converted:
    module, options = _module("ravel"), cell["spec"]["task"]["options"]
    settings = {
        "entity_attribute_selection": {k: list(v) for k, v in cell["details"].get("attributes", {}).items()},
        "num_pairs_per_attribute": options["pairs"],
        "train_test_split": options["train_share"],
        "learning_rate": options["learning_rate"],
        "num_epochs": options["epochs"],
        "n_generated_tokens": options["generated_tokens"],
        **(_set(top_n_entities=options["entities"]) if isinstance(options["entities"], int) else {}),
    }
    metrics = module.RAVELMetricCategories(ravel=_named(module.RAVELMetricResults, cell["scores"]))
    return Converted(module.RAVELEvalOutput, _config("ravel", "RAVELEvalConfig"), settings, metrics)


def _unlearning(cell: Cell) -> Converted:
    module, options = _module("unlearning"), cell["spec"]["task"]["options"]
    settings = {
        "retain_thresholds": list(options["retain_thresholds"]),
        "n_features_list": list(options["n_features"]),
        "dataset_size": options["dataset_size"],
        "seq_len": options["seq_len"],
    }
    if all(float(each).is_integer() for each in options["multipliers"]):
        settings["multipliers"] = [int(each) for each in options["multipliers"]]
    metrics = module.UnlearningMetricCategories(unlearning=_named(module.UnlearningMetrics, cell["scores"]))
    config = _config("unlearning", "UnlearningEvalConfig")
    return Converted(module.UnlearningEvalOutput, config, settings, metrics)


def _set(**values: Any) -> dict[str, Any]:
    """The values that are set; the others are sae-bench's defaults, as they are abench's."""
    return {name: value for name, value in values.items() if value is not None}


def _used(cell: Cell, what: str) -> list[str]:
    return [name for each in cell.get("parts") or () if each["what"] == what for name in each["used"]]


TASKS: Mapping[str, SAEBenchTask] = {
    "core": SAEBenchTask("core", _core, split=False),
    "sparse_probing": SAEBenchTask("sparse_probing", _sparse_probing),
    "scr": SAEBenchTask("scr", _scr),
    "tpp": SAEBenchTask("tpp", _tpp),
    "absorption": SAEBenchTask("absorption", _absorption, needs=_SPREAD),
    "ravel": SAEBenchTask("ravel", _ravel),
    "unlearning": SAEBenchTask("unlearning", _unlearning),
}
"""abench's task -> sae-bench's evaluation."""
