"""Small models with random weights, of the architectures of the paper's six models."""

from typing import Any

D_MODEL, N_LAYERS, VOCABULARY = 32, 4, 300
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": D_MODEL,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
_GROUPED = _COMMON | {"num_key_value_heads": 2, "head_dim": 8}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "pythia-70m": ("GPTNeoXConfig", _COMMON),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": 4, "n_positions": 64},
    ),
    "gemma-2-2b": ("Gemma2Config", _GROUPED | {"query_pre_attn_scalar": 8, "sliding_window": 16}),
    "qwen3-4b": ("Qwen3Config", _GROUPED),
    "llama-3.1-8b": ("LlamaConfig", _GROUPED),
    "gemma-3-12b": (
        "Gemma3Config",
        {
            "text_config": _GROUPED | {"query_pre_attn_scalar": 8, "sliding_window": 16},
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
            "mm_tokens_per_image": 4,
        },
    ),
}
"""The architectures of the paper's six models, with sizes for a test."""


def build_model(architecture: str) -> Any:
    """A model of one of the six architectures with random weights, always the same."""
    import torch
    import transformers

    config_name, sizes = ARCHITECTURES[architecture]
    config = getattr(transformers, config_name)(**sizes)
    auto = (
        transformers.AutoModelForImageTextToText
        if "text_config" in sizes
        else transformers.AutoModelForCausalLM
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(config)
        for parameter in model.parameters():
            # Larger than the usual initialisation, so that blocks really change the residual stream.
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def build_tokenizer(*, bos: bool) -> Any:
    """A byte-level tokenizer (300 tokens at most) with or without a BOS token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<eos>", "<pad>"] + (["<bos>"] if bos else [])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog ran"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", bos_token="<bos>" if bos else None
    )
