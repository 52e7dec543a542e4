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

_THREE = _COMMON | {"num_hidden_layers": 3}
_N_THREE = {"vocab_size": VOCABULARY, "n_embd": D_MODEL, "n_layer": 3, "n_head": 4, "n_positions": 64}
_FALCON = _THREE | {"ffn_hidden_size": 64}
_OPT = _THREE | {"ffn_dim": 64, "word_embed_proj_dim": D_MODEL}
_GPT_NEO = {
    "vocab_size": VOCABULARY,
    "hidden_size": D_MODEL,
    "num_layers": 3,
    "num_heads": 4,
    "attention_types": [[["global", "local", "global"], 1]],
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "window_size": 8,
}
_MPT = {"vocab_size": VOCABULARY, "d_model": D_MODEL, "n_layers": 3, "n_heads": 4, "max_seq_len": 64}

OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon": ("FalconConfig", _FALCON),
    "falcon-40b": ("FalconConfig", _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-rw": ("FalconConfig", _FALCON | {"parallel_attn": False, "multi_query": False, "alibi": True}),
    "bloom": ("BloomConfig", {"vocab_size": VOCABULARY, "hidden_size": D_MODEL, "n_layer": 3, "n_head": 4}),
    "gpt_neo": ("GPTNeoConfig", _GPT_NEO),
    "mpt": ("MptConfig", _MPT),
    "opt": ("OPTConfig", _OPT),
    "opt-350m": ("OPTConfig", _OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "gptj": ("GPTJConfig", _N_THREE | {"rotary_dim": 4}),
    "codegen": ("CodeGenConfig", _N_THREE | {"rotary_dim": 4}),
    "phi": ("PhiConfig", _THREE),
    "phi3": ("Phi3Config", _THREE | {"pad_token_id": 0}),
    "gpt_bigcode": ("GPTBigCodeConfig", _N_THREE),
    "openai-gpt": ("OpenAIGPTConfig", _N_THREE),
    "olmo2": ("Olmo2Config", _THREE | {"num_key_value_heads": 2}),
    "mixtral": ("MixtralConfig", _THREE | {"num_key_value_heads": 2, "num_local_experts": 2}),
    "mamba": (
        "MambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": D_MODEL, "num_hidden_layers": 3, "state_size": 4},
    ),
    "bert-decoder": ("BertConfig", _THREE | {"is_decoder": True}),
}
"""Architectures whose blocks, names or positions differ from those of the six, in three blocks."""

UNFIT: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertConfig", _THREE, "tokens attend to later tokens"),
    "roberta": ("RobertaConfig", _THREE, "tokens attend to later tokens"),
    "electra": ("ElectraConfig", _THREE, "tokens attend to later tokens"),
    "t5": (
        "T5Config",
        {"vocab_size": VOCABULARY, "d_model": D_MODEL, "num_layers": 3, "num_heads": 4, "d_ff": 64},
        "is an encoder-decoder",
    ),
}
"""Architectures that abench cannot work on, and what it says of them."""


def build_other(architecture: str) -> Any:
    """A model of `OTHERS` or `UNFIT` with random weights, always the same."""
    import torch
    import transformers

    config_name, sizes = (OTHERS | UNFIT)[architecture][:2]
    config = getattr(transformers, config_name)(**sizes)
    encodes = architecture in UNFIT and config.is_encoder_decoder
    auto = transformers.AutoModelForSeq2SeqLM if encodes else transformers.AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(config)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


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
