"""Small GGUF files, made of a model and a tokenizer as llama.cpp's converter does, and wheels of them."""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize

NORMAL_TEXT = "the cat sat on the mat and  the dog ran 12 34 times\n\nin 1999, for 7 days  "
CHAT = (
    "{% for message in messages %}<bos>{{ message['role'] }}\n{{ message['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant\n{% endif %}"
)
_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def build_llama(*, tied: bool = False, seed: int = 0) -> Any:
    """A small Llama with random weights: two blocks, d_model 32, a vocabulary of 320."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_theta=20_000.0,
        tie_word_embeddings=tied,
        bos_token_id=2,
        eos_token_id=0,
        pad_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
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
    metadata: dict[str, Any] | None = None,
    chat: str | None = CHAT,
    tensors: dict[str, np.ndarray] | None = None,
    raw_kind: GGMLQuantizationType | None = None,
    pieces: Sequence[str] = (),
) -> Path:
    """Write a model of `build_llama` and its tokenizer. Matrices have the given type, norms are float32.

    `metadata` and `tensors` are added; `raw_kind` labels the matrices with another type than they have;
    `pieces` makes the tokenizer a sentencepiece one of these words and all bytes.
    """
    config = model.config
    writer = GGUFWriter(file, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if pieces:
        _add_pieces(writer, pieces, config.vocab_size)
    else:
        _add_tokenizer(writer, tokenizer, rule)
    if chat is not None:
        writer.add_chat_template(chat)
    for key, value in (metadata or {}).items():
        add = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}
        add.get(type(value), writer.add_float32)(key, value)
    for name, weights in _tensors(model):
        _add(writer, name, weights, kind, raw_kind)
    for name, weights in (tensors or {}).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokenizer(writer: GGUFWriter, tokenizer: Any, rule: str) -> None:
    described = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(words)
    writer.add_token_types([TokenType.CONTROL if word in special else TokenType.NORMAL for word in words])
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


def _tensors(model: Any) -> Iterable[tuple[str, np.ndarray]]:
    config = model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, parameter in model.named_parameters():
        weights = parameter.detach().numpy()
        if name in _OUTER:
            yield _OUTER[name], weights
            continue
        _, _, block, rest = name.split(".", 3)
        short = _NAMES[rest.removesuffix(".weight")]
        if short in heads:
            # llama.cpp pairs the coordinates that are rotated together in another order.
            paired = weights.reshape(heads[short], 2, -1, weights.shape[1])
            weights = paired.swapaxes(1, 2).reshape(weights.shape)
        yield f"blk.{block}.{short}.weight", weights


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
