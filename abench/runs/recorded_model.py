"""Opening the model that the record of an SAE names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from abench.config import ModelConfig
from abench.data.opening import open_model
from abench.errors import UserError
from abench.lm.catalogue import find_model, local_commit
from abench.lm.models import LanguageModel
from abench.results.store import SAERecord


def open_recorded_model(record: SAERecord, device: str, model: str | None = None) -> LanguageModel:
    """The model that an SAE was trained on, from its recorded path, or from `model` if it has moved.

    Raises UserError if it is not a language model, cannot be found, or has other weights than recorded.
    """
    spec: Mapping[str, Any] = record.spec["model"]
    name = str(record.labels["model"])
    if "synthetic" in spec:
        raise UserError(f"the SAE was trained on the synthetic model {name}, which reads no text")
    config, wanted = _config_of(record, model), str(spec["commit"])

    def other(found: str) -> str:
        return (
            f"the weights of {model or name} are not those that the SAE was trained on (recorded commit "
            f"{wanted[:12]}, found {found[:12]})"
        )

    # Before anything is loaded, which can take minutes.
    commit = local_commit(config)
    if commit is not None and commit != wanted:
        raise UserError(other(commit))
    lm = open_model(
        config,
        name=name,
        commit=wanted,
        dtype=spec["dtype"],
        eos_after_documents=spec["eos_after_documents"],
        device=device,
        otherwise=lambda _, found: other(found),
    )
    if not isinstance(lm, LanguageModel):
        raise UserError(f"{model or name} is a synthetic model, which reads no text")
    return lm


def _config_of(record: SAERecord, model: str | None) -> ModelConfig:
    name, kept = str(record.labels["model"]), record.provenance.get("model")
    if model is not None:
        return find_model(model)[1]
    if kept is None:
        # Earlier versions of abench recorded only the model's name.
        return find_model(name.replace("--", "/"))[1]
    try:
        config = ModelConfig.model_validate(kept)
    except ValidationError as error:
        raise UserError(
            f"the SAE's record of its model {name} cannot be read: give the model with --model"
        ) from error
    if Path(config.weights).is_absolute() and not Path(config.weights).exists():
        raise UserError(
            f"the SAE was trained on the model {name} in {config.weights}, which does not exist: give its "
            "new location with --model"
        )
    return config
