"""abench: train sparse autoencoders, score them, compare them. Signed latents included.

The names listed here are the public API; tasks are written against it alone. They are imported when first
used, so that `import abench` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from abench.activations import TokenRows, ordinary
    from abench.errors import UserError
    from abench.library import TrainedSAE, train
    from abench.models import LanguageModel, site_name
    from abench.synthetic import SyntheticModel
    from abench.task import Context, Metric, Scores, Task, View
    from abench.variants import Variant

_HOME = {
    "Context": "task",
    "LanguageModel": "models",
    "Metric": "task",
    "Scores": "task",
    "SyntheticModel": "synthetic",
    "Task": "task",
    "TokenRows": "activations",
    "TrainedSAE": "library",
    "UserError": "errors",
    "Variant": "variants",
    "View": "task",
    "ordinary": "activations",
    "site_name": "models",
    "train": "library",
}

__all__ = [
    "Context",
    "LanguageModel",
    "Metric",
    "Scores",
    "SyntheticModel",
    "Task",
    "TokenRows",
    "TrainedSAE",
    "UserError",
    "Variant",
    "View",
    "ordinary",
    "site_name",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'abench' has no attribute '{name}'")
    return getattr(import_module(f"abench.{_HOME[name]}"), name)
