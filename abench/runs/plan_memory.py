"""Checks that a run can fit into this machine's memory, before anything is downloaded or written."""

from collections.abc import Sequence

from abench.config import ModelConfig, RunConfig
from abench.errors import UserError
from abench.results.jobs import Job
from abench.runs.machine_memory import main_bytes
from abench.runs.plan import sae_widths

_NUMBER = 4
"""Bytes of a float32."""


def check_memory(config: RunConfig, model: ModelConfig, settings: int | None = None) -> None:
    """Raise UserError for a run that needs more memory than the machine has, including that of its GPUs.

    `settings` is the number of variants with their options and training that are trained together (None: one
    per variant).

    Only data that must be in memory at the same time is counted, so that no run that fits is refused.
    """
    main = main_bytes()
    parts = needed_bytes(config, model, settings)
    if main is None or sum(parts.values()) <= main:
        return  # most runs; importing torch to query the GPUs takes a second
    has = main + gpu_bytes()
    if sum(parts.values()) <= has:
        return
    largest = max(parts, key=lambda part: parts[part])
    raise UserError(
        f"the run needs at least {_gib(sum(parts.values()))} of memory and this machine has {_gib(has)}: "
        f"{_gib(parts[largest])} of it for {largest}"
    )


def needed_bytes(config: RunConfig, model: ModelConfig, settings: int | None = None) -> dict[str, int]:
    """Minimum memory for training at one site: purpose -> bytes.

    All SAEs of a site are trained together; each has an encoder and a decoder with Adam's two moments.
    """
    training = config.training
    alike = (settings or len(config.variants)) * len(config.k or model.k) * len(config.seeds)
    weights = alike * sum(2 * width * model.d_model for width in sae_widths(config, model))
    buffered = min(training.buffer_tokens, training.tokens)
    features = model.synthetic.features if model.synthetic else 0
    return {
        "the SAEs of one site and Adam's moments (width, k, variants, seeds)": 3 * weights * _NUMBER,
        "shuffled activations (training.buffer_tokens)": buffered * model.d_model * _NUMBER,
        "the directions of synthetic features": features * model.d_model * _NUMBER,
    }


def gpu_bytes() -> int:
    """Total memory of this machine's GPUs in bytes."""
    import torch

    gpus = range(torch.cuda.device_count())
    return sum(int(torch.cuda.get_device_properties(gpu).total_memory) for gpu in gpus)


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"


def largest_sae_bytes(saes: Sequence[Job]) -> int:
    """Minimum memory for training the largest of these SAEs by itself."""
    return max((saes_bytes([sae]) for sae in saes), default=0)


def saes_bytes(saes: Sequence[Job]) -> int:
    """Minimum memory for training these SAEs together, without activations: weights and Adam's moments."""
    return sum(3 * 2 * sae.width * sae.model.config.d_model for sae in saes) * _NUMBER
