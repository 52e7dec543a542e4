"""Devices for models and SAEs, checked before anything is placed on them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from abench.errors import UserError

if TYPE_CHECKING:
    import torch

AUTO = "auto"
"""In place of a device: the model is spread over all GPUs, and main memory if they are too small."""
_OFFLOADED = ("cpu", "disk", "meta")


def usable_device(asked: str | None) -> str:
    """The device's name if this machine can compute on it; for None the GPU, or the CPU without a GPU.

    `auto` is returned as it is. Raises UserError for an unknown device and for one that this machine does not
    have.
    """
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked == AUTO:
        return asked
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise _unusable(asked, "there is no such device") from error
    number = _number(device.type)
    if number == 0:
        raise _unusable(asked, f"torch finds no {device.type} device on this machine")
    if device.index is not None and device.index >= number:
        raise _unusable(asked, f"devices are counted from 0, and this machine has {number} of this kind")
    try:
        # A device can exist and still refuse work: another process holds it, or its memory is full.
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise _unusable(asked, str(error).strip().splitlines()[0][:200]) from error
    return asked


def computing_device(device: str) -> str:
    """The one device of SAEs and activations, for a model on `device` (as from `usable_device`).

    For `auto` the first GPU, or the CPU without a GPU.
    """
    return usable_device(None) if device == AUTO else device


def device_of(model: Any) -> "torch.device":
    """The device on which a transformers model takes tokens and gives logits.

    A model that is spread over several devices (`hf_device_map`) gives logits where its tokens were; that is
    the first of its devices, or the CPU if all of its weights wait in main memory or on a disk.
    """
    import torch

    places = _places(model)
    if len(places) < 2 and "disk" not in places:
        device: torch.device = model.device
        return device
    return torch.device(next((place for place in places if place not in _OFFLOADED), "cpu"))


def places_of(model: Any) -> list[str]:
    """The devices over which a transformers model is spread; `cpu` and `disk` are where weights wait.

    Empty for a model on a single device.
    """
    places = _places(model)
    return sorted(places) if len(places) > 1 or "disk" in places else []


def check_map(device_map: Mapping[str, Any]) -> None:
    """Raise UserError for a place in a device map that this machine does not have."""
    for place in _different(device_map):
        if place != "disk":
            usable_device(place)


def _places(model: Any) -> list[str]:
    return _different(getattr(model, "hf_device_map", None) or {})


def _different(device_map: Mapping[str, Any]) -> list[str]:
    """The different places in a device map, in order; a GPU can be given by its number alone."""
    import torch

    accelerator = torch.accelerator.current_accelerator()
    kind = "cuda" if accelerator is None else accelerator.type
    given = device_map.values()
    return list(dict.fromkeys(f"{kind}:{each}" if isinstance(each, int) else str(each) for each in given))


def available_devices() -> list[str]:
    """The kinds of device that this machine can compute on, the CPU first."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]


def _number(kind: str) -> int:
    """The number of devices of a kind on this machine."""
    import torch

    if kind not in available_devices():
        return 0
    return 1 if kind == "cpu" else int(torch.get_device_module(kind).device_count())


def _unusable(asked: str, cause: str) -> UserError:
    shown = asked if len(asked) <= 40 else f"{asked[:40]}…"
    usable = ", ".join(available_devices())
    return UserError(f"device '{shown}' cannot be used: {cause}; usable here: {usable}")
