"""Completing the tokenizers that transformers builds from GGUF files.

A GGUF file states only the name of the rule by which its tokenizer divides text into words. transformers
knows some of these names and otherwise uses GPT-2's rule, with which other tokenizers give other ids.
"""

from typing import Any

_AS_GPT2 = frozenset({"default", "gpt-2", "phi-2", "mpt", "olmo", "jais"})
_SINGLE_DIGITS = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)
"""GPT-2's rule after each digit has been set apart."""


def rule_is_known(rule: str) -> bool:
    """Whether text can be divided into words by a rule of byte-level tokenizers."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return rule in _AS_GPT2 | _SINGLE_DIGITS or rule in GGUF_PRE_TOKENIZER_SPLITS


def complete_tokenizer(tokenizer: Any, *, kind: str, rule: str, space_before: bool) -> None:
    """Make a tokenizer from a GGUF file divide text as the file states.

    `kind` is the file's `tokenizer.ggml.model`, `rule` its `tokenizer.ggml.pre`, and `space_before` whether a
    space is put before text (`tokenizer.ggml.add_space_prefix`).
    """
    from tokenizers import decoders, pre_tokenizers

    backend = tokenizer.backend_tokenizer
    if kind == "gpt2" and rule in _SINGLE_DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    elif kind == "llama" and not space_before and isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=False)
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
