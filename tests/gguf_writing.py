"""Small GGUF files, made of a model and a tokenizer as llama.cpp's converter does, and wheels of them."""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map, quantize

NORMAL_TEXT = "the cat sat on the mat and  the dog ran 12 34 times\n\nin 1999, for 7 days  "
CHAT = (
    "{% for message in messages %}<bos>{{ message['role'] }}\n{{ message['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant\n{% endif %}"
)
_SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 2,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2, "head_dim": 8}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _GROUPED | {"rms_norm_eps": 1e-5, "rope_theta": 20_000.0}),
    "qwen2": ("Qwen2Config", _SIZES | {"num_key_value_heads": 2}),
    # transformers takes its own default of the heads' size for these, which all such models have.
    "qwen3": ("Qwen3Config", _GROUPED | {"head_dim": 128}),
    "gemma2": ("Gemma2Config", _GROUPED | {"sliding_window": 16}),
    "gpt2": ("GPT2Config", {"vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 4}),
}
"""Architecture in GGUF -> the configuration of a small model: two blocks, d_model 32, a vocabulary of 320."""


def build_llama(*, tied: bool = False, seed: int = 0) -> Any:
    """A small Llama with random weights."""
    return build_small("llama", seed=seed, tie_word_embeddings=tied)


def build_small(architecture: str, *, seed: int = 0, **more: Any) -> Any:
    """A small model of `KINDS` with random weights, always the same."""
    import torch
    import transformers

    config_name, sizes = KINDS[architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = getattr(transformers, config_name)(**sizes, **more)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def build_words(rule: str) -> Any:
    """A byte-level tokenizer that divides text by a rule, and has learnt from text with digits and spaces."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if rule == "smollm":
        divide: Any = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    elif rule == "gpt-2":
        divide = whole
    else:
        split = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[rule]), behavior="isolated")
        plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        divide = pre_tokenizers.Sequence([split, plain])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = divide, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<eos>", "<pad>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([NORMAL_TEXT * 2] * 4, trainer)
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    words.chat_template = CHAT
    return words


def write_gguf(
    file: Path,
    model: Any,
    tokenizer: Any,
    *,
    rule: str = "gpt-2",
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    architecture: str = "llama",
    known_architecture: str | None = None,
    metadata: dict[str, Any] | None = None,
    chat: str | None = CHAT,
    tensors: dict[str, np.ndarray] | None = None,
    raw_kind: GGMLQuantizationType | None = None,
    pieces: Sequence[str] = (),
) -> Path:
    """Write a model of `build_small` and its tokenizer. Matrices have the given type, norms are float32.

    The tensors are named and arranged as those of `known_architecture`, by default the stated one.
    `metadata` and `tensors` are added; `raw_kind` labels the matrices with another type than they have;
    `pieces` makes the tokenizer a sentencepiece one of these words and all bytes.
    """
    config = model.config
    writer = GGUFWriter(file, architecture)
    _add_sizes(writer, config)
    if pieces:
        _add_pieces(writer, pieces, config.vocab_size)
    else:
        _add_tokenizer(writer, tokenizer, rule, config.vocab_size)
    if chat is not None:
        writer.add_chat_template(chat)
    for key, value in (metadata or {}).items():
        add = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}
        add.get(type(value), writer.add_float32)(key, value)
    for name, weights in _tensors(model, known_architecture or architecture):
        _add(writer, name, weights, kind, raw_kind)
    for name, weights in (tensors or {}).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokenizer(writer: GGUFWriter, tokenizer: Any, rule: str, size: int) -> None:
    described = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    special = set(tokenizer.all_special_tokens)
    padding = [f"[PAD{number}]" for number in range(len(words), size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    types = [TokenType.CONTROL if word in special else TokenType.NORMAL for word in words]
    writer.add_token_list(words + padding)
    writer.add_token_types(types + [TokenType.UNUSED] * len(padding))
    writer.add_token_merges([" ".join(merge) for merge in described["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)


def _add_pieces(writer: GGUFWriter, pieces: Sequence[str], size: int) -> None:
    special = {"<unk>": TokenType.UNKNOWN, "<s>": TokenType.CONTROL, "</s>": TokenType.CONTROL}
    types = special | {f"<0x{byte:02X}>": TokenType.BYTE for byte in range(256)}
    types |= dict.fromkeys(pieces, TokenType.NORMAL)
    types |= {f"[PAD{number}]": TokenType.UNUSED for number in range(size - len(types))}
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(types))
    writer.add_token_types(list(types.values()))
    writer.add_token_scores([-float(number) for number in range(size)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _add_sizes(writer: GGUFWriter, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", 4 * config.hidden_size))
    writer.add_head_count(config.num_attention_heads)
    if config.model_type == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if "head_dim" in config.to_dict():
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_key_length(config.head_dim)
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)


def _tensors(model: Any, architecture: str) -> Iterable[tuple[str, np.ndarray]]:
    config = model.config
    kind = next(each for each, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(kind, config.num_hidden_layers)
    for full, parameter in model.named_parameters():
        name = names.get_name(full, try_suffixes=(".weight", ".bias"))
        assert name is not None, full
        weights = parameter.detach().numpy()
        if architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
            # llama.cpp pairs the coordinates that are rotated together in another order.
            heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
            paired = weights.reshape(heads, 2, -1, weights.shape[1])
            weights = paired.swapaxes(1, 2).reshape(weights.shape)
        elif architecture == "gemma2" and name.endswith("norm.weight"):
            weights = weights + 1
        elif architecture == "gpt2" and ".h." in full and weights.ndim == 2:
            weights = weights.T
        yield name, weights


def _add(
    writer: GGUFWriter,
    name: str,
    weights: np.ndarray,
    kind: GGMLQuantizationType,
    raw_kind: GGMLQuantizationType | None,
) -> None:
    if weights.ndim == 1:
        writer.add_tensor(name, np.ascontiguousarray(weights))
    elif raw_kind is not None:
        writer.add_tensor(name, np.zeros((weights.shape[0], 292), dtype=np.uint8), raw_dtype=raw_kind)
    else:
        writer.add_tensor(name, quantize(np.ascontiguousarray(weights), kind), raw_dtype=kind)


def write_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """A wheel that pip accepts, with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    everything = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in everything.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in everything))
    return wheel


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
