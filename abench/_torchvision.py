"""Keep a torchvision built for another torch from breaking transformers.

sae-bench depends on torchvision, and the package registry carries only its CUDA build. Beside a CPU-only
torch its import raises; transformers sees the package installed, imports it for image processing and can
then import no model class at all. abench needs no images, so a torchvision that cannot be imported is hidden.
"""

import importlib.util
import sys


def hide_if_broken() -> None:
    """Make `import torchvision` fail cleanly if the installed one cannot be imported beside this torch.

    Call before transformers, sae_lens or transformer_lens is first imported. A working torchvision, or one
    that is imported already, is left alone.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    import torch

    if torch.version.cuda is not None:
        return
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        # None marks a module as absent for both `import` and `importlib.util.find_spec`.
        sys.modules["torchvision"] = None  # type: ignore[assignment]
