"""Opening a Hugging Face folder; everything that can be wrong with one becomes a sentence.

The same function opens it for planning, without its weights, and for computing, with them. Code that comes
with a folder is never run.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any, TypeGuard

from abench.errors import UserError, outside_cause
from abench.lm.devices import AUTO
from abench.lm.model_files import check_files, number_of_tensors
from abench.storage.content import State, folder_state, unchanged


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model that a plan needs."""

    n_layers: int
    d_model: int
    max_context: int | None
    """Number of positions of the model; None if unlimited."""


def examine(folder: Path) -> Sizes:
    """The sizes of the model in a folder, which is opened without its weights.

    Raises UserError for everything that would prevent its use. Done once per process while nothing in the
    folder changes.
    """
    check_files(folder)
    return _examined(folder.resolve(), folder_state(folder))


@lru_cache(maxsize=64)
def _examined(folder: Path, _state: State) -> Sizes:
    model, _ = open_folder(folder, dtype="float32", device="meta")
    return sizes_of(model.config, f"{folder}/config.json")


def configured_sizes(folder: Path) -> Sizes:
    """The sizes in a folder's config.json; the rest of the folder is not examined."""
    return sizes_of(_configuration(folder), f"{folder}/config.json")


def open_folder(
    folder: Path, *, dtype: str, device: str, device_map: Mapping[str, int | str] | None = None
) -> tuple[Any, Any]:
    """The causal language model in a folder, on a device, and its tokenizer.

    On the device `meta` the weights are checked but not read. On `auto` they are spread over all GPUs, and
    `device_map` states the place of each module instead (`LanguageModel.load`). Raises UserError for a folder
    with missing or damaged weights, weights that do not fit the configuration, a tokenizer that does not fit
    the model, a model that is not a decoder or needs custom code, and for everything that transformers cannot
    open.
    """
    check_files(folder)
    if device != "meta":
        # Mismatches are found before memory is allocated.
        examine(folder)
    with unchanged(folder):
        _check_depth(folder, configured_sizes(folder))
        model = _model(folder, dtype, device, device_map)
        tokenizer = _tokenizer(folder)
    from abench.lm.blocks import blocks_of

    blocks_of(model, f"the model in {folder}")
    _check_vocabulary(folder, tokenizer, model)
    _check_stops(folder, model)
    return model, tokenizer


def sizes_of(config: Any, source: str) -> Sizes:
    """Depth, width and maximum context of a transformers configuration, whose names for them vary."""
    text = config.get_text_config()
    n_layers, d_model = getattr(text, "num_hidden_layers", None), getattr(text, "hidden_size", None)
    if not _is_count(n_layers) or not _is_count(d_model) or d_model < 2:
        raise UserError(f"{source} does not state the number of layers of the model, or its width")
    # max_seq_len is MPT's name; its attention biases are made for that many positions.
    positions = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)
    return Sizes(n_layers, d_model, positions if _is_count(positions) else None)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_depth(folder: Path, sizes: Sizes) -> None:
    """Raise UserError for an absurd depth: transformers would build blocks until memory runs out."""
    tensors = number_of_tensors(folder)
    if sizes.n_layers > tensors:
        raise UserError(
            f"{folder}/config.json states that the model has {sizes.n_layers} layers, but its weights are "
            f"only {tensors} tensors"
        )


def _configuration(folder: Path) -> Any:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    with sentences(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        kind = "an encoder-decoder" if config.is_encoder_decoder else f"of the kind '{config.model_type}'"
        raise UserError(
            f"the model in {folder} is {kind}; abench works on causal language models that transformers "
            "implements"
        )
    return config


def _model(folder: Path, dtype: str, device: str, device_map: Mapping[str, int | str] | None = None) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    placed = _device_map(device) if device_map is None else dict(device_map)
    with sentences(folder), silenced():
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            # Weights of the wrong size are reported below, by name.
            ignore_mismatched_sizes=True,
            device_map=placed,
        )
    check_loaded(folder, info)
    with sentences(folder):
        return model.to(device) if placed is None else model


def _device_map(device: str) -> str | None:
    """What transformers calls a device map; None for a single device, to which the model is moved."""
    # SAEs and activations need memory of the first GPU.
    return {"meta": "meta", AUTO: "balanced_low_0"}.get(device)


def check_loaded(folder: Path, info: Mapping[str, Any], description: str = "config.json") -> None:
    """Raise UserError for weights that transformers would draw at random (missing) or drop (unexpected).

    `description` is the part of the folder or file that states the model's sizes, for messages.
    """
    unfit = f"the weights in {folder} do not fit its {description}"
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise UserError(f"{unfit}: {name} is {list(found)}, not {list(wanted)}")
    for kind, says in (("missing_keys", "is missing"), ("unexpected_keys", "has no place in the model")):
        names = sorted(info[kind])
        if names:
            others = f", and likewise {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{unfit}: {names[0]} {says}{others}")
    if info["error_msgs"]:
        raise UserError(f"the weights in {folder} cannot be read: {_first_line(info['error_msgs'][0])}")


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with sentences(folder, "tokenizer"):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _check_vocabulary(folder: Path, tokenizer: Any, model: Any) -> None:
    """Raise UserError for a tokenizer with an empty vocabulary, or with tokens beyond the embedding."""
    with sentences(folder, "tokenizer"):
        special = set(tokenizer.all_special_ids)
        words = {token: number for token, number in tokenizer.get_vocab().items() if number not in special}
    if not words:
        # If files are missing, transformers makes a tokenizer without words; every text would be empty.
        raise UserError(f"{folder} has no tokenizer: its vocabulary is empty, or its files are missing")
    rows = model.get_input_embeddings().weight.shape[0]
    # Special tokens of a model for images may lie beyond the embedding; BOS and EOS may not.
    ends = (tokenizer.bos_token, tokenizer.eos_token)
    used = words | {each: tokenizer.convert_tokens_to_ids(each) for each in ends if each is not None}
    token = max(used, key=lambda each: used[each])
    if used[token] >= rows:
        raise UserError(
            f"the tokenizer in {folder} does not fit the model: its token {token!r:.40} has the id "
            f"{used[token]}, but the model has embeddings for {rows} tokens"
        )


def _check_stops(folder: Path, model: Any) -> None:
    """Raise UserError unless the ids of the tokens that end a reply are integers."""
    stops = getattr(model.generation_config, "eos_token_id", None)
    each = stops if isinstance(stops, list) else [stops]
    if not all(token is None or type(token) is int for token in each):
        raise UserError(
            f"the eos_token_id of the model in {folder} (generation_config.json, config.json) is "
            f"{str(stops)!r:.80}, not a token id or a list of token ids"
        )


@contextmanager
def sentences(folder: Path, what: str = "model") -> Iterator[None]:
    """Turn errors of transformers into a UserError; their types depend on the architecture and the fault."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            cause = "it needs code that comes with it (auto_map), which abench does not run"
        else:
            cause = _cause(error)
        raise UserError(f"the {what} in {folder} cannot be opened: {cause}") from error


def _cause(error: Exception) -> str:
    outside = outside_cause(error) if isinstance(error, MemoryError | RecursionError) else None
    said = outside or _first_line(str(error))
    if isinstance(error, LookupError | TypeError | AttributeError | ArithmeticError):
        # Not a message for users: transformers misread a value in the folder.
        return f"transformers fails on a value in its files ({type(error).__name__}: {said})"
    return said or type(error).__name__


def _first_line(text: str) -> str:
    """The first line of a message, or the first two if the first ends with a colon."""
    first, _, rest = text.strip().partition("\n")
    if first.rstrip().endswith(":") and rest.strip():
        first = f"{first.rstrip()} {rest.strip().splitlines()[0]}"
    return first.rstrip(" .:")[:300]


@contextmanager
def silenced() -> Iterator[None]:
    """Silence transformers' report on weights, which an abench message replaces.

    accelerate would warn that weights of a model that is spread wait elsewhere, which the user has asked for.
    """
    from transformers.utils import logging

    before, spreading = logging.get_verbosity(), getLogger("accelerate.big_modeling")
    level = spreading.level
    logging.set_verbosity_error()
    spreading.setLevel(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
        spreading.setLevel(level)
