"""Devices for models and SAEs, checked before anything is placed on them."""

from abench.errors import UserError


def usable_device(asked: str | None) -> str:
    """The device's name if this machine can compute on it; for None the GPU, or the CPU without a GPU.

    Raises UserError for an unknown device and for one that this machine does not have.
    """
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
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
