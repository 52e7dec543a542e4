"""The reference of a run's and a model's configuration, read from the classes that check them."""

import inspect
from collections.abc import Iterator

from abench.config.model import ModelConfig
from abench.config.run import RunConfig
from abench.config.spec import Spec, kinds_in
from generators.fields import field_table


def _inner(spec: type[Spec]) -> Iterator[tuple[str, type[Spec]]]:
    """The keys of a class whose values are descriptions of their own, with the classes of these."""
    for name, field in spec.model_fields.items():
        for kind in kinds_in(field.annotation):
            if isinstance(kind, type) and issubclass(kind, Spec):
                yield name, kind


SPECS = {"run": RunConfig, **dict(_inner(RunConfig)), "model": ModelConfig, **dict(_inner(ModelConfig))}
"""The classes by the name under which pages show them: the key that holds them, or what they describe."""


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
