"""Opening a Hugging Face folder, and whatever can be wrong with one, as a sentence.

The same function opens it for planning, without its weights, and for computing, with them. Code that a folder
brings with it is never run.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

from abench.content import State, folder_state, unchanged
from abench.errors import UserError, outside_cause
from abench.model_files import check_files, number_of_tensors


@dataclass(frozen=True)
class Sizes:
    """What a plan has to know of a model."""

    n_layers: int
    d_model: int
    max_context: int | None
    """Tokens that the model has positions for; None if nothing limits them."""


def examine(folder: Path) -> Sizes:
    """Open a folder without its weights, and raise UserError for whatever would keep it from being used.

    Done once per process as long as nothing in the folder changes.
    """
    check_files(folder)
    return _examined(folder.resolve(), folder_state(folder))


@lru_cache(maxsize=64)
def _examined(folder: Path, _state: State) -> Sizes:
    model, _ = open_folder(folder, dtype="float32", device="meta")
    return sizes_of(model.config, f"{folder}/config.json")


def configured_sizes(folder: Path) -> Sizes:
    """What a folder's config.json says, without a look at the rest of the folder."""
    return sizes_of(_configuration(folder), f"{folder}/config.json")


def open_folder(folder: Path, *, dtype: str, device: str) -> tuple[Any, Any]:
    """The causal language model in a folder, on a device, and its tokenizer.

    On the device `meta` the weights are checked and not read. Raises UserError for a folder without weights
    or with damaged ones, weights that do not fit the configuration, a tokenizer that does not fit the model,
    a model that is no decoder or needs code of its own, and for whatever transformers cannot open.
    """
    check_files(folder)
    if device != "meta":
        # What does not fit is found before memory is taken for it.
        examine(folder)
    with unchanged(folder):
        _check_depth(folder, configured_sizes(folder))
        model = _model(folder, dtype, device)
        tokenizer = _tokenizer(folder)
    from abench.blocks import blocks_of

    blocks_of(model, f"the model in {folder}")
    _check_vocabulary(folder, tokenizer, model)
    _check_stops(folder, model)
    return model, tokenizer


def sizes_of(config: Any, source: str) -> Sizes:
    """Depth, width and longest context, as a transformers configuration has them under whatever name."""
    text = config.get_text_config()
    n_layers, d_model = getattr(text, "num_hidden_layers", None), getattr(text, "hidden_size", None)
    if not _is_count(n_layers) or not _is_count(d_model) or d_model < 2:
        raise UserError(f"{source} does not say how many layers the model has, or how wide it is")
    # MPT's name for it; its biases are made for so many positions.
    positions = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)
    return Sizes(n_layers, d_model, positions if _is_count(positions) else None)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_depth(folder: Path, sizes: Sizes) -> None:
    """A depth beyond all reason would have transformers build blocks until the memory ends."""
    tensors = number_of_tensors(folder)
    if sizes.n_layers > tensors:
        raise UserError(
            f"{folder}/config.json says that the model has {sizes.n_layers} layers, but its weights are only "
            f"{tensors} tensors"
        )


def _configuration(folder: Path) -> Any:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    with _sentences(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        kind = "an encoder-decoder" if config.is_encoder_decoder else f"of the kind '{config.model_type}'"
        raise UserError(
            f"the model in {folder} is {kind}, and abench works on causal language models that transformers "
            "has the code of"
        )
    return config


def _model(folder: Path, dtype: str, device: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    with _sentences(folder), _silenced():
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            # Weights of other sizes are told below, by name.
            ignore_mismatched_sizes=True,
            device_map="meta" if device == "meta" else None,
        )
    _check_loaded(folder, info)
    with _sentences(folder):
        return model if device == "meta" else model.to(device)


def _check_loaded(folder: Path, info: Mapping[str, Any]) -> None:
    """transformers makes up weights that are missing, at random, and leaves out what it has no place for."""
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise UserError(
            f"the weights in {folder} do not fit its config.json: {name} is {list(found)}, not {list(wanted)}"
        )
    for kind, says in (("missing_keys", "is missing"), ("unexpected_keys", "has no place in the model")):
        names = sorted(info[kind])
        if names:
            others = f", and so {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"the weights in {folder} do not fit its config.json: {names[0]} {says}{others}")
    if info["error_msgs"]:
        raise UserError(f"the weights in {folder} cannot be read: {_first_line(info['error_msgs'][0])}")


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with _sentences(folder, "tokenizer"):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _check_vocabulary(folder: Path, tokenizer: Any, model: Any) -> None:
    """Raise UserError for a tokenizer without words, or with tokens that the model has no embedding for."""
    with _sentences(folder, "tokenizer"):
        special = set(tokenizer.all_special_ids)
        words = {token: number for token, number in tokenizer.get_vocab().items() if number not in special}
    if not words:
        # transformers makes a tokenizer that knows no words where the files are missing; every text is empty.
        raise UserError(f"{folder} has no tokenizer: its vocabulary is empty, or its files are not there")
    rows = model.get_input_embeddings().weight.shape[0]
    # Special tokens of a model for images may lie beyond; the ones that begin and end texts may not.
    ends = (tokenizer.bos_token, tokenizer.eos_token)
    used = words | {each: tokenizer.convert_tokens_to_ids(each) for each in ends if each is not None}
    token = max(used, key=lambda each: used[each])
    if used[token] >= rows:
        raise UserError(
            f"the tokenizer in {folder} does not fit the model: its token {token!r:.40} is number "
            f"{used[token]}, but the model has embeddings for {rows} tokens"
        )


def _check_stops(folder: Path, model: Any) -> None:
    """Raise UserError unless the tokens that end a reply are numbers."""
    stops = getattr(model.generation_config, "eos_token_id", None)
    each = stops if isinstance(stops, list) else [stops]
    if not all(token is None or type(token) is int for token in each):
        raise UserError(
            f"the eos_token_id of the model in {folder} (generation_config.json, config.json) is "
            f"{str(stops)!r:.80}, not a token's number or a list of them"
        )


@contextmanager
def _sentences(folder: Path, what: str = "model") -> Iterator[None]:
    """What transformers raises as a sentence; which types come depends on the architecture and the fault."""
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
        # Not written to be read: transformers took a value in the folder for something else.
        return f"transformers fails on a value in its files ({type(error).__name__}: {said})"
    return said or type(error).__name__


def _first_line(text: str) -> str:
    """The first line of a message, or the first two where the second says what the first announces."""
    first, _, rest = text.strip().partition("\n")
    if first.rstrip().endswith(":") and rest.strip():
        first = f"{first.rstrip()} {rest.strip().splitlines()[0]}"
    return first.rstrip(" .:")[:300]


@contextmanager
def _silenced() -> Iterator[None]:
    """transformers without its report on weights, which a sentence of ours replaces."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
