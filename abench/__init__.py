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
    from abench.concepts import Concept, LatentDifferences, latent_differences, mean_difference
    from abench.contexts import Excerpt, LatentContexts, TopContexts, top_contexts
    from abench.errors import UserError
    from abench.few_latents import latent_codes
    from abench.inputs import InputFile
    from abench.library import TrainedSAE, train
    from abench.models import LanguageModel, site_name
    from abench.steering import (
        AblateDirection,
        AblateLatents,
        AddDirection,
        ClampLatent,
        Intervention,
        ScaleLatent,
        steered,
    )
    from abench.synthetic import SyntheticModel
    from abench.task import Context, Metric, ModelKind, Scores, Skip, Task, View
    from abench.variants import Variant
    from abench.views import SplitSAE

_HOME = {
    "AblateDirection": "steering",
    "AblateLatents": "steering",
    "AddDirection": "steering",
    "ClampLatent": "steering",
    "Concept": "concepts",
    "Context": "task",
    "Excerpt": "contexts",
    "InputFile": "inputs",
    "Intervention": "steering",
    "LanguageModel": "models",
    "LatentContexts": "contexts",
    "LatentDifferences": "concepts",
    "Metric": "task",
    "ModelKind": "task",
    "PoleCodes": "codes",
    "PoleRates": "codes",
    "Pooled": "codes",
    "ScaleLatent": "steering",
    "Scores": "task",
    "Skip": "task",
    "SplitSAE": "views",
    "SyntheticModel": "synthetic",
    "Task": "task",
    "TokenRows": "activations",
    "TopContexts": "contexts",
    "TrainedSAE": "library",
    "UserError": "errors",
    "Variant": "variants",
    "View": "task",
    "firing_rates": "codes",
    "latent_codes": "few_latents",
    "latent_differences": "concepts",
    "mean_difference": "concepts",
    "ordinary": "activations",
    "pool": "codes",
    "right_padded": "codes",
    "site_name": "models",
    "steered": "steering",
    "token_rows": "codes",
    "top_contexts": "contexts",
    "train": "library",
}

__all__ = [
    "AblateDirection",
    "AblateLatents",
    "AddDirection",
    "ClampLatent",
    "Concept",
    "Context",
    "Excerpt",
    "InputFile",
    "Intervention",
    "LanguageModel",
    "LatentContexts",
    "LatentDifferences",
    "Metric",
    "ModelKind",
    "PoleCodes",
    "PoleRates",
    "Pooled",
    "ScaleLatent",
    "Scores",
    "Skip",
    "SplitSAE",
    "SyntheticModel",
    "Task",
    "TokenRows",
    "TopContexts",
    "TrainedSAE",
    "UserError",
    "Variant",
    "View",
    "firing_rates",
    "latent_codes",
    "latent_differences",
    "mean_difference",
    "ordinary",
    "pool",
    "right_padded",
    "site_name",
    "steered",
    "token_rows",
    "top_contexts",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'abench' has no attribute '{name}'")
    return getattr(import_module(f"abench.{_HOME[name]}"), name)
