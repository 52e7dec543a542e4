"""Command lines that run all of abench on a small model of the stand-in hub, in seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TRAINING = {
    "training.batch_size": 64,
    "training.buffer_tokens": 128,
    "training.calibration_tokens": 64,
    "evaluation.tokens": 64,
    "context": 16,
    "data.held_out_documents": 5,
}
BIOGRAPHIES = "LabHC/bias_in_bios_class_set1"
TASKS: Mapping[str, Mapping[str, Any]] = {
    "sparse_probing": {"datasets": [BIOGRAPHIES]},
    "scr": {"datasets": [BIOGRAPHIES], "test": 24},
    "tpp": {"datasets": [BIOGRAPHIES]},
    # The tokenizer has few words, and one order of the choices is enough for luck to pass.
    "absorption": {"min_probe_f1": 0.0, "min_letters": 1, "batch_size": 4},
    "unlearning": {"orders": 1, "seq_len": 16, "n_features": [4], "multipliers": [25]},
    "ravel": {"generated_tokens": 2},
}
"""Options with which each task has little to do."""


def small_run(model: Path, results: Path, *more: str, limit: int = 32) -> list[str]:
    """Trains two SAEs on a model (`hub.models.small_config`) and scores them; `more` names the tasks."""
    sizes = ["--variants", "abstopk,topk", "--width", "64", "--k", "4", "--tokens", "128"]
    places = ["--model", str(model), "--name", model.stem, "--results", str(results), "--limit", str(limit)]
    return ["run", *places, *sizes, *_settings(_TRAINING), *more]


def options(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Options of tasks, by task, as words of a command line."""
    return _settings({f"task_options.{t}.{name}": v for t, each in tasks.items() for name, v in each.items()})


def _settings(values: Mapping[str, Any]) -> list[str]:
    """`--set` for each; a value as Python writes it is YAML, too."""
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
