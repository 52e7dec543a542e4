"""The tokenizers of GGUF files: made by transformers, completed, and written as ordinary files.

A GGUF file states only the name of the rule by which its tokenizer divides text into words. transformers
knows some of these names and otherwise uses GPT-2's rule, with which other tokenizers give other ids.
"""

import json
from pathlib import Path
from typing import Any

from abench.errors import UserError
from abench.lm.gguf_files import GgufFacts, examine_gguf
from abench.lm.model_folder import sentences

_AS_GPT2 = frozenset({"default", "gpt-2", "phi-2", "mpt", "olmo", "jais"})
_SINGLE_DIGITS = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)
"""GPT-2's rule after each digit has been set apart."""

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
_PROBES = ("It's 12 apples,  and\n\n 3.5 pears", "  WE'LL meet in 1999 \n", "naïve 日本語 ½ \t\t x  ")
"""Texts that the known rules divide differently."""


def rule_is_known(rule: str) -> bool:
    """Whether text can be divided into words by a rule of byte-level tokenizers."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return rule in _AS_GPT2 | _SINGLE_DIGITS or rule in GGUF_PRE_TOKENIZER_SPLITS


def write_tokenizer(alone: Path, name: str, folder: Path, file: Path) -> None:
    """Write the tokenizer of the GGUF file `name` in the folder `alone` into `folder`, next to config.json.

    `file` is the file's name for messages. Raises UserError if transformers cannot make the tokenizer, or if
    it would read the written files as a tokenizer that gives other ids.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    facts = examine_gguf(file)
    with sentences(file, "tokenizer"):
        made = AutoTokenizer.from_pretrained(
            alone, gguf_file=name, local_files_only=True, trust_remote_code=False
        )
        backend = _without_strangers(made.backend_tokenizer, facts.words)
        _complete(backend, facts)
        special = {kind: getattr(made, kind) for kind in _SPECIAL if getattr(made, kind) is not None}
        # A class of its own, such as GPT2Tokenizer, would build the tokenizer again by its own rule.
        plain = PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=made.chat_template, **special)
        plain.save_pretrained(folder)
        read = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if any(_divided(read, text) != _divided(plain, text) for text in _PROBES):
        raise UserError(
            f"transformers reads the tokenizer in {file} with other rules than the file states "
            f"('{facts.rule}'), so its token ids would be wrong: use the model's safetensors folder"
        )


def _divided(tokenizer: Any, text: str) -> tuple[Any, list[int]]:
    """How a tokenizer divides a text into words, and the ids of its tokens."""
    divides = tokenizer.backend_tokenizer.pre_tokenizer
    words = text if divides is None else divides.pre_tokenize_str(text)
    return words, tokenizer(text, add_special_tokens=False)["input_ids"]


def _without_strangers(backend: Any, words: int) -> Any:
    """The tokenizer without the tokens that transformers adds although the file does not have them."""
    from tokenizers import Tokenizer

    described = json.loads(backend.to_str())
    described["added_tokens"] = [each for each in described["added_tokens"] if each["id"] < words]
    return Tokenizer.from_str(json.dumps(described))


def _complete(backend: Any, facts: GgufFacts) -> None:
    """Make a tokenizer divide text as its file states."""
    from tokenizers import decoders, pre_tokenizers

    if facts.tokenizer == "gpt2" and facts.rule in _SINGLE_DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    prepends = isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace)
    if facts.tokenizer == "llama" and not facts.space_before and prepends:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=False)
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
