"""Registering architectures with sae-lens, which builds and loads SAEs by name."""

from typing import Any

from sae_lens import register_sae_class, register_sae_training_class
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY


def register_inference(sae_class: type[Any], config_class: type[Any]) -> None:
    """Let `sae_lens.SAE.load_from_disk` open SAEs of this class under the configuration's architecture name.

    Reloading a module replaces its own classes. Raises ValueError if another module has registered the name.
    """
    name = config_class.architecture()
    _forget(SAE_CLASS_REGISTRY, name, sae_class.__module__)
    register_sae_class(name, sae_class, config_class)


def register_training(sae_class: type[Any], config_class: type[Any]) -> None:
    """Let sae-lens build training SAEs of this class; call `register_inference` first, which works alike."""
    name = config_class.architecture()
    _forget(SAE_TRAINING_CLASS_REGISTRY, name, sae_class.__module__)
    register_sae_training_class(name, sae_class, config_class)


def _forget(registry: dict[str, tuple[type[Any], type[Any]]], name: str, module: str) -> None:
    if name in registry and registry[name][0].__module__ == module:
        del registry[name]
