"""The six named models as their repositories are laid out, with random weights: of real size, or small.

Depth and width are those of configs/models, because abench takes them from there. Attention heads,
feed-forward layers and vocabulary are tiny, so that most have less than 30 MB (GPT-2, with its square
attention, 56 MB). Small ones have four blocks, which a copy of the model's file has to say (`small_config`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from architectures import ARCHITECTURES, D_MODEL, N_LAYERS, build_tokenizer

from hub.repository import Commit, Repository

_NARROW = {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 8,
    "max_position_embeddings": 1024,
}
_CHAT = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


@dataclass(frozen=True)
class _Layout:
    """What distinguishes a model's repository."""

    sizes: Mapping[str, Any]
    """Fields of its (text) config beside depth and width."""
    bos: str | None
    """The token that begins texts; GPT-2 and Pythia use the one that ends them."""
    shard: str = "1GB"
    """Largest file of weights."""
    extras: Mapping[str, bytes] | None = None
    """Further files, among them ones that a download must leave alone."""
    branches: tuple[str, ...] = ()
    """Further branches, with other weights."""


LAYOUTS: dict[str, _Layout] = {
    "pythia-70m": _Layout(
        {"num_attention_heads": 8, "intermediate_size": 8, "max_position_embeddings": 1024},
        "<eos>",
        branches=("step1000",),
    ),
    "gpt2": _Layout(
        {"n_head": 12, "n_inner": 8, "n_positions": 1024},
        "<eos>",
        extras={"pytorch_model.bin": b"a pickle", "onnx/decoder_model.onnx": b"not ours"},
    ),
    "gemma-2-2b": _Layout(_NARROW, "<bos>"),
    "gemma-3-12b": _Layout(_NARROW, "<bos>"),
    "qwen3-4b": _Layout(
        _NARROW, None, extras={"chat_template.jinja": _CHAT.encode(), "qwen.tiktoken": b"a tokenizer's file"}
    ),
    "llama-3.1-8b": _Layout(
        _NARROW, "<bos>", shard="8MB", extras={"original/consolidated.00.pth": b"a pickle"}
    ),
}


SMALL_LAYER = 1
"""The layer that the configuration of a small model names."""


def model_repository(name: str, folder: Path, *, small: bool = False) -> Repository:
    """The stand-in for a model of configs/models under its real id, its files written to `folder`."""
    from abench.config import model_config

    known = model_config(name)
    size = None if small else (known.n_layers, known.d_model)
    branches = {
        branch: _commit(name, size, folder / branch, seed=seed)
        for seed, branch in enumerate(("main", *LAYOUTS[name].branches))
    }
    return Repository("models", known.weights, branches.pop("main"), branches, gated=known.gated)


def small_config(name: str, folder: Path) -> Path:
    """A copy of a model's file in configs/models for the small stand-in, in float32: fast on any CPU."""
    from abench.config import model_config

    values = model_config(name).model_dump(mode="json", exclude_defaults=True)
    sizes = {"n_layers": N_LAYERS, "d_model": D_MODEL, "layers": [SMALL_LAYER], "k": [4], "dtype": "float32"}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(values | sizes), encoding="utf-8")
    return file


def _commit(name: str, size: tuple[int, int] | None, folder: Path, *, seed: int) -> Commit:
    """A model of `size` (depth and width; None: small) with its tokenizer."""
    layout = LAYOUTS[name]
    model = _random_model(name, size, seed)
    model.save_pretrained(folder, max_shard_size=layout.shard)
    tokenizer = build_tokenizer(bos=layout.bos == "<bos>")
    tokenizer.bos_token = layout.bos
    tokenizer.save_pretrained(folder)
    for path, content in {"README.md": b"# Stand-in\n", **(layout.extras or {})}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    return Commit(folder)


def _random_model(name: str, size: tuple[int, int] | None, seed: int) -> Any:
    """Random weights, scaled so that blocks change the residual stream and nothing overflows."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config_name, template = ARCHITECTURES[name]
    config = getattr(transformers, config_name)(**_sizes(name, template, size))
    nested = "text_config" in template
    auto = transformers.AutoModelForImageTextToText if nested else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config, dtype=torch.bfloat16)
    model.to_empty(device="cpu")
    model.tie_weights()
    generator = torch.Generator().manual_seed(seed)
    for path, parameter in model.named_parameters():
        if parameter.dim() < 2:
            parameter.data.fill_(float("norm" in path or "ln_" in path) * float(not path.endswith("bias")))
        else:
            parameter.data.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
    return model


def _sizes(name: str, template: Mapping[str, Any], size: tuple[int, int] | None) -> dict[str, Any]:
    inner = dict(template.get("text_config", template)) | _special_ids(name)
    if size is None:
        inner["n_positions" if name == "gpt2" else "max_position_embeddings"] = 1024
    else:
        depth, width = ("n_layer", "n_embd") if name == "gpt2" else ("num_hidden_layers", "hidden_size")
        inner |= {**LAYOUTS[name].sizes, depth: size[0], width: size[1]}
    return {**template, "text_config": inner} if "text_config" in template else inner


def _special_ids(name: str) -> dict[str, int | None]:
    """The ids that build_tokenizer gives its special tokens."""
    begin = {"<eos>": 0, "<bos>": 2, None: None}[LAYOUTS[name].bos]
    return {"eos_token_id": 0, "pad_token_id": 1, "bos_token_id": begin}
