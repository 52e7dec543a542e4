"""What a GGUF file says about its model, and whether transformers would open all of it rightly.

GGUF is llama.cpp's format: metadata, a tokenizer and weights in one file, usually quantised.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.errors import UserError, outside_cause
from abench.storage.sealed import Stamp

if TYPE_CHECKING:
    from gguf import GGUFReader

CONVERSION_VERSION = 1
"""Raise this whenever the same GGUF file gives other weights or other token ids; part of every key."""

_READS_SCALING = frozenset({"gpt-oss"})
"""Architectures whose scaling of positions transformers takes from the file."""


@dataclass(frozen=True)
class GgufFacts:
    """The facts of a GGUF file that its conversion needs in addition to what transformers reads."""

    architecture: str
    tokenizer: str
    """Kind of the tokenizer: `gpt2` (byte-level), `llama` (sentencepiece), ..."""
    rule: str
    """Name of the rule by which a byte-level tokenizer divides text into words."""
    space_before: bool
    """Whether the tokenizer puts a space before a text."""
    words: int
    """Number of tokens of the tokenizer."""
    stops: tuple[int, ...]
    """Ids of the tokens that end a reply."""
    weights: int
    """Number of weights in all tensors but the output's."""
    output_weights: int
    """Number of weights of the output matrix; 0 if it is the embedding."""


def is_gguf(name: str) -> bool:
    """Whether the name of a model is the path of a GGUF file."""
    return Path(name).suffix.lower() == ".gguf"


def examine_gguf(file: Path) -> GgufFacts:
    """The facts of a GGUF file, from its metadata and its table of tensors.

    Raises UserError for a file that is not GGUF or is cut off, and for anything in it that transformers would
    get wrong without saying so: quantisation, scaling of positions, the tokenizer's rule. Done once per
    process while the file does not change.
    """
    try:
        return _examined(file.resolve(), Stamp.of(file))
    except OSError as error:
        raise UserError(f"the GGUF file {file} cannot be read: {outside_cause(error)}") from error


@lru_cache(maxsize=16)
def _examined(file: Path, _stamp: Stamp) -> GgufFacts:
    with _sentences(file):
        reader = _reader(file)
        architecture = str(_value(reader, "general.architecture", ""))
        output = sum(int(t.n_elements) for t in reader.tensors if t.name == "output.weight")
        facts = GgufFacts(
            architecture=architecture,
            tokenizer=str(_value(reader, "tokenizer.ggml.model", "")),
            rule=str(_value(reader, "tokenizer.ggml.pre", "default")),
            space_before=bool(_value(reader, "tokenizer.ggml.add_space_prefix", True)),
            words=_length(reader, "tokenizer.ggml.tokens"),
            stops=_stops(reader),
            weights=sum(int(tensor.n_elements) for tensor in reader.tensors) - output,
            output_weights=output,
        )
        _check_parts(file, reader)
        _check_tokenizer(file, facts)
        _check_positions(file, reader, architecture)
        _check_quantisation(file, reader)
    return facts


def _reader(file: Path) -> "GGUFReader":
    from gguf import GGUFReader

    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise UserError(f"{file} is not a GGUF file: it does not begin with the letters GGUF")
    return GGUFReader(file)


def _value(reader: "GGUFReader", key: str, default: Any) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()


def _length(reader: "GGUFReader", key: str) -> int:
    field = reader.get_field(key)
    return 0 if field is None else len(field.data)


def _stops(reader: "GGUFReader") -> tuple[int, ...]:
    """The ids of EOS and, for chat models where it is another token, of the end of a turn."""
    keys = (f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
    ids = (_value(reader, key, None) for key in keys)
    return tuple(dict.fromkeys(int(token) for token in ids if token is not None))


def _check_parts(file: Path, reader: "GGUFReader") -> None:
    parts = int(_value(reader, "split.count", 1))
    if parts > 1:
        raise UserError(
            f"{file} is one of {parts} parts of a model: merge them into one file first "
            "(`llama-gguf-split --merge`)"
        )


def _check_tokenizer(file: Path, facts: GgufFacts) -> None:
    from abench.lm.gguf_tokenizers import rule_is_known

    if not facts.tokenizer or not facts.words:
        raise UserError(f"{file} has no tokenizer (tokenizer.ggml.model, tokenizer.ggml.tokens)")
    if facts.tokenizer == "gpt2" and not rule_is_known(facts.rule):
        raise UserError(
            f"the tokenizer in {file} divides text by the rule '{facts.rule}' (tokenizer.ggml.pre), which is "
            "not known here, so its token ids would be wrong: use the model's safetensors folder"
        )


def _check_positions(file: Path, reader: "GGUFReader", architecture: str) -> None:
    """Raise UserError for scaled positions: transformers would open the model without the scaling."""
    if architecture in _READS_SCALING:
        return
    kind = str(_value(reader, f"{architecture}.rope.scaling.type", "none"))
    factors = [tensor.name for tensor in reader.tensors if tensor.name.startswith("rope_")]
    if kind != "none" or factors:
        what = factors[0] if factors else f"rope.scaling.type '{kind}'"
        raise UserError(
            f"the model in {file} scales its positions ({what}), which transformers does not read from GGUF "
            "files: use the model's safetensors folder"
        )


def _check_quantisation(file: Path, reader: "GGUFReader") -> None:
    """Raise UserError for a type of weights that cannot be converted to float32."""
    from gguf import dequantize

    first = {tensor.tensor_type: tensor for tensor in reversed(reader.tensors)}
    for kind, tensor in first.items():
        try:
            dequantize(tensor.data[:1], kind)
        except NotImplementedError as error:
            raise UserError(
                f"the weights {tensor.name} in {file} have the type {kind.name}, which cannot be converted: "
                "use a file with another quantisation, e.g. Q8_0, Q6_K or Q4_K_M"
            ) from error


@contextmanager
def _sentences(file: Path) -> Iterator[None]:
    """Turn the reader's errors into a UserError; their types are those of numpy for places beyond the end."""
    try:
        yield
    except (UserError, OSError, ImportError):
        raise
    except Exception as error:
        cause = str(error).strip().splitlines()
        raise UserError(
            f"{file} is damaged, cut off or of a kind that cannot be read "
            f"({cause[0][:200] if cause else type(error).__name__}): download it again"
        ) from error
