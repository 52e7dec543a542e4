"""A language model that is open, with what a plan needs of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abench.config import ModelConfig, model_config, model_named
from abench.data.opening import open_model
from abench.errors import UserError
from abench.lm.catalogue import fetched_commit, find_model
from abench.lm.models import LanguageModel
from abench.names import safe_name


@dataclass(frozen=True)
class OpenedModel:
    """A language model in memory, under the name that it has in tables."""

    name: str
    config: ModelConfig
    commit: str
    """What identifies its weights."""
    lm: LanguageModel


def opened(model: Any, *, device: str, dtype: str | None = None) -> OpenedModel:
    """An open model from its name (as `--model` takes it), a `LanguageModel`, or a model with its tokenizer.

    `model` is a str or Path, a LanguageModel, or a pair of a transformers model and its tokenizer; the last
    two are used as they are, on the device on which they are. Raises UserError for anything else and for a
    model that cannot be opened.
    """
    if isinstance(model, LanguageModel):
        return _in_memory(model)
    if isinstance(model, tuple) and len(model) == 2:
        lm, tokenizer = model
        name = str(getattr(lm, "name_or_path", "") or type(lm).__name__)
        return _in_memory(LanguageModel(lm, tokenizer, name=name))
    if hasattr(model, "get_input_embeddings"):
        raise UserError("a transformers model needs its tokenizer: give the pair (model, tokenizer)")
    name, config = find_model(str(model))
    commit = fetched_commit(config)
    lm = open_model(
        config,
        name=name,
        commit=commit,
        dtype=dtype or config.dtype,
        eos_after_documents=config.eos_after_documents,
        device=device,
        otherwise=lambda folder, _: f"{folder} changed while it was opened: try again",
    )
    if not isinstance(lm, LanguageModel):
        raise UserError(f"{name} is a synthetic model: only SAEs that abench trains can read it")
    return OpenedModel(name, config, commit, lm)


def _in_memory(lm: LanguageModel) -> OpenedModel:
    if any(parameter.is_meta for parameter in lm.model.parameters()):
        raise UserError(
            f"some weights of {lm.name} wait on a disk or in main memory (device_map), so they cannot be "
            'identified: give the name or the folder of the model, and device="auto"'
        )
    known = model_named(lm.name)
    usual = ModelConfig.model_fields["context"].default
    config = ModelConfig(
        title=lm.name,
        weights=lm.name,
        n_layers=lm.n_layers,
        d_model=lm.d_model,
        layers=(lm.n_layers // 2,),
        k=(max(1, lm.d_model // 10),),
        context=min(usual, lm.max_context or usual),
        eos_after_documents=lm.eos_after_documents,
    )
    if known is not None:
        # A model that abench knows by name reads the text that its description names.
        described = model_config(known)
        config = config.model_copy(update={"data": described.data, "context": described.context})
    return OpenedModel(safe_name(lm.name), config, fingerprint(lm.model.state_dict()), lm)


def fingerprint(tensors: Mapping[str, Tensor], *more: str) -> str:
    """A hash of tensors by name, and of further texts, 64 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    for text in more:
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
