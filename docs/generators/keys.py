"""The reference of a run's and a model's configuration, read from the classes that check them."""

import inspect

from abench.config import DataSpec, EvaluationSpec, TrainingSpec
from abench.config.cache_spec import ActivationCacheSpec
from abench.config.model import ModelConfig
from abench.config.package_spec import PackageSpec
from abench.config.run import RunConfig
from abench.config.synthetic_spec import SyntheticSpec
from generators.fields import field_table

SPECS = {
    "run": RunConfig,
    "training": TrainingSpec,
    "evaluation": EvaluationSpec,
    "data": DataSpec,
    "activation_cache": ActivationCacheSpec,
    "model": ModelConfig,
    "package": PackageSpec,
    "synthetic": SyntheticSpec,
}
"""The classes by the name under which pages show them: the key of a run that holds them, or what they are."""


def table_of(name: str) -> str:
    """The keys of one class."""
    return field_table(SPECS[name])


def page() -> str:
    """All keys of all classes."""
    parts = [
        "# Keys of configurations",
        "Every key of a run's YAML file, then every key of a model's. [Configuration](../configuration.md) "
        "explains them, [models](../models.md) and [synthetic models](../synthetic.md) those of models.",
    ]
    for name, spec in SPECS.items():
        parts += [f"## {name}", inspect.getdoc(spec) or "", field_table(spec)]
    return "\n\n".join(parts) + "\n"
