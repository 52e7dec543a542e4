"""abench: train sparse autoencoders, score them, compare them. Signed latents included.

The names listed here are the public API, together with those of `abench.judges` and `abench.tinyworld`; tasks
are written against it alone. They are imported when first used, so that `import abench` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from abench._torchvision import hide_if_broken

__version__ = "0.1.0"

hide_if_broken()

if TYPE_CHECKING:
    from abench.activations import TokenRows, ordinary
    from abench.amounts import Amount
    from abench.codes import (
        PoleCodes,
        PoleRates,
        Pooled,
        firing_rates,
        pool,
        right_padded,
        sparse_codes,
        token_rows,
    )
    from abench.concepts import Concept, LatentDifferences, latent_differences, mean_difference
    from abench.contexts import Excerpt, LatentContexts, TopContexts, top_contexts
    from abench.decoding import (
        from_residual_units,
        in_residual_units,
        latent_directions,
        output_gain,
        residual_codes,
    )
    from abench.errors import UserError
    from abench.few_latents import latent_codes
    from abench.inputs import InputFile
    from abench.kept import Kept
    from abench.library import TrainedSAE, train
    from abench.loading import load_hub_files, load_hub_split, read_hub
    from abench.models import LanguageModel, site_name
    from abench.reconstruction import Reconstruction, reconstruct
    from abench.rows import FILE_ENDINGS, FileRows, load_file, read_file, text_in
    from abench.steering import (
        AblateDirection,
        AblateLatents,
        AddDirection,
        ClampLatent,
        Intervention,
        ScaleLatent,
        steered,
    )
    from abench.synthetic import SyntheticModel, SyntheticSample
    from abench.task import Context, Metric, ModelKind, Scores, Skip, Task, View
    from abench.variants import Variant
    from abench.views import SplitSAE, base_of

_HOME = {
    "AblateDirection": "steering",
    "AblateLatents": "steering",
    "AddDirection": "steering",
    "Amount": "amounts",
    "ClampLatent": "steering",
    "Concept": "concepts",
    "Context": "task",
    "Excerpt": "contexts",
    "FILE_ENDINGS": "rows",
    "FileRows": "rows",
    "InputFile": "inputs",
    "Intervention": "steering",
    "Kept": "kept",
    "LanguageModel": "models",
    "LatentContexts": "contexts",
    "LatentDifferences": "concepts",
    "Metric": "task",
    "ModelKind": "task",
    "PoleCodes": "codes",
    "PoleRates": "codes",
    "Pooled": "codes",
    "Reconstruction": "reconstruction",
    "ScaleLatent": "steering",
    "Scores": "task",
    "Skip": "task",
    "SplitSAE": "views",
    "SyntheticModel": "synthetic",
    "SyntheticSample": "synthetic",
    "Task": "task",
    "TokenRows": "activations",
    "TopContexts": "contexts",
    "TrainedSAE": "library",
    "UserError": "errors",
    "Variant": "variants",
    "View": "task",
    "base_of": "views",
    "firing_rates": "codes",
    "from_residual_units": "decoding",
    "in_residual_units": "decoding",
    "latent_codes": "few_latents",
    "latent_differences": "concepts",
    "latent_directions": "decoding",
    "load_file": "rows",
    "load_hub_files": "loading",
    "load_hub_split": "loading",
    "mean_difference": "concepts",
    "ordinary": "activations",
    "output_gain": "decoding",
    "pool": "codes",
    "read_file": "rows",
    "read_hub": "loading",
    "reconstruct": "reconstruction",
    "residual_codes": "decoding",
    "right_padded": "codes",
    "site_name": "models",
    "sparse_codes": "codes",
    "steered": "steering",
    "text_in": "rows",
    "token_rows": "codes",
    "top_contexts": "contexts",
    "train": "library",
}

__all__ = [
    "FILE_ENDINGS",
    "AblateDirection",
    "AblateLatents",
    "AddDirection",
    "Amount",
    "ClampLatent",
    "Concept",
    "Context",
    "Excerpt",
    "FileRows",
    "InputFile",
    "Intervention",
    "Kept",
    "LanguageModel",
    "LatentContexts",
    "LatentDifferences",
    "Metric",
    "ModelKind",
    "PoleCodes",
    "PoleRates",
    "Pooled",
    "Reconstruction",
    "ScaleLatent",
    "Scores",
    "Skip",
    "SplitSAE",
    "SyntheticModel",
    "SyntheticSample",
    "Task",
    "TokenRows",
    "TopContexts",
    "TrainedSAE",
    "UserError",
    "Variant",
    "View",
    "base_of",
    "firing_rates",
    "from_residual_units",
    "in_residual_units",
    "latent_codes",
    "latent_differences",
    "latent_directions",
    "load_file",
    "load_hub_files",
    "load_hub_split",
    "mean_difference",
    "ordinary",
    "output_gain",
    "pool",
    "read_file",
    "read_hub",
    "reconstruct",
    "residual_codes",
    "right_padded",
    "site_name",
    "sparse_codes",
    "steered",
    "text_in",
    "token_rows",
    "top_contexts",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'abench' has no attribute '{name}'")
    return getattr(import_module(f"abench.{_HOME[name]}"), name)
