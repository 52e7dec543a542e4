"""From a GGUF file to an ordinary Hugging Face folder in float32, through transformers."""

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, TextIO, cast

from abench.errors import UserError
from abench.foreign import WithoutBars
from abench.lm.gguf_files import GgufFacts, examine_gguf
from abench.lm.gguf_tokenizers import write_tokenizer
from abench.lm.model_folder import Sizes, check_loaded, examine, sentences, silenced, sizes_of

_NAME = "model.gguf"


def gguf_sizes(file: Path) -> Sizes:
    """The sizes of the model in a GGUF file.

    Raises UserError for everything that `examine_gguf` refuses and for an architecture that transformers
    cannot open.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    facts = examine_gguf(file)
    with tempfile.TemporaryDirectory(prefix="abench-") as empty, sentences(file), silenced():
        alone = _alone(file, Path(empty) / "alone")
        config = AutoConfig.from_pretrained(alone, gguf_file=_NAME, local_files_only=True)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise UserError(
            f"the model in {file} is of the kind '{facts.architecture}'; abench works on causal language "
            "models that transformers implements"
        )
    return sizes_of(config, str(file))


def convert(file: Path, folder: Path, scratch: Path) -> None:
    """Write the model and the tokenizer of a GGUF file into an empty folder: safetensors, float32.

    Raises UserError for a file that cannot be opened, and OSError or SafetensorError if writing fails.
    """
    gguf_sizes(file)
    facts = examine_gguf(file)
    alone = _alone(file, scratch / "alone")
    model = _dense(_opened(alone, file, facts), facts)
    with silenced():
        model.save_pretrained(folder)
        write_tokenizer(alone, _NAME, folder, file)
    try:
        examine(folder)
    except UserError as error:
        # The folder is a draft that will be gone.
        raise UserError(str(error).replace(str(folder), str(file))) from error


def _alone(file: Path, folder: Path) -> Path:
    """A new folder in which the file is the only one: transformers would read other files next to it."""
    folder.mkdir()
    (folder / _NAME).symlink_to(file.resolve())
    return folder


def _opened(alone: Path, file: Path, facts: GgufFacts) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    with sentences(file), silenced(), _bars_on_terminals_only():
        model, info = AutoModelForCausalLM.from_pretrained(
            alone,
            gguf_file=_NAME,
            dtype=torch.float32,
            # Otherwise the weights would stay quantised where a package with kernels for them is installed.
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    check_loaded(file, info, "metadata")
    _check_nothing_dropped(file, facts, model)
    return model


def _check_nothing_dropped(file: Path, facts: GgufFacts, model: Any) -> None:
    """Raise UserError unless every weight is in the model: transformers skips those that it does not know."""
    written = facts.weights + (
        0 if model.config.get_text_config().tie_word_embeddings else facts.output_weights
    )
    read = sum(parameter.numel() for parameter in model.parameters())
    if read != written:
        raise UserError(
            f"{file} holds {written:,} weights, but the model that transformers makes of it has {read:,}: "
            "use the model's safetensors folder"
        )


def _dense(model: Any, facts: GgufFacts) -> Any:
    """The same model as if it had never been quantised; transformers refuses to save the quantised one."""
    import torch

    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        dense = type(model)(config)
    dense.load_state_dict(model.state_dict(), assign=True)
    dense.tie_weights()
    dense.generation_config = model.generation_config
    if facts.stops:
        dense.generation_config.eos_token_id = facts.stops[0] if len(facts.stops) == 1 else list(facts.stops)
    return dense


@contextmanager
def _bars_on_terminals_only() -> Iterator[None]:
    """Drop the progress bar of transformers' GGUF reader, which cannot be switched off, from logs."""
    import sys

    if sys.stderr is not None and sys.stderr.isatty():
        yield
        return
    # With stderr closed, Python has none, and the bar would fail.
    with redirect_stderr(cast(TextIO, WithoutBars(sys.stderr or StringIO()))):
        yield
