"""abench: train sparse autoencoders, score them, compare them. Signed latents included.

The names listed here are the public API; tasks are written against it alone. They are imported when first
used, so that `import abench` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from abench.activations import TokenRows, ordinary
    from abench.codes import PoleCodes, PoleRates, Pooled, firing_rates, pool, right_padded, token_rows
    from abench.errors import UserError
    from abench.library import TrainedSAE, train
    from abench.models import LanguageModel, site_name
    from abench.synthetic import SyntheticModel
    from abench.task import Context, Metric, ModelKind, Scores, Skip, Task, View
    from abench.variants import Variant
    from abench.views import SplitSAE

_HOME = {
    "Context": "task",
    "LanguageModel": "models",
    "Metric": "task",
    "ModelKind": "task",
    "PoleCodes": "codes",
    "PoleRates": "codes",
    "Pooled": "codes",
    "Scores": "task",
    "Skip": "task",
    "SplitSAE": "views",
    "SyntheticModel": "synthetic",
    "Task": "task",
    "TokenRows": "activations",
    "TrainedSAE": "library",
    "UserError": "errors",
    "Variant": "variants",
    "View": "task",
    "firing_rates": "codes",
    "ordinary": "activations",
    "pool": "codes",
    "right_padded": "codes",
    "site_name": "models",
    "token_rows": "codes",
    "train": "library",
}

__all__ = [
    "Context",
    "LanguageModel",
    "Metric",
    "ModelKind",
    "PoleCodes",
    "PoleRates",
    "Pooled",
    "Scores",
    "Skip",
    "SplitSAE",
    "SyntheticModel",
    "Task",
    "TokenRows",
    "TrainedSAE",
    "UserError",
    "Variant",
    "View",
    "firing_rates",
    "ordinary",
    "pool",
    "right_padded",
    "site_name",
    "token_rows",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'abench' has no attribute '{name}'")
    return getattr(import_module(f"abench.{_HOME[name]}"), name)
