"""`abench doctor` checks whether this installation works and shows what it runs on."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abench.cli.options import json_option, results_option
from abench.cli.text import columns, echo_json

if TYPE_CHECKING:
    from abench.discovery import Found


@dataclass(frozen=True)
class Diagnosis:
    """The result of one check; one line of the doctor's report."""

    what: str
    ok: bool
    found: str


@click.command()
@results_option
@json_option
def doctor(results: Path, as_json: bool) -> int:
    """Check the installation.

    The checks cover Python, the packages, the device, the bundled model, variants, tasks, the results folder
    and the connection to the hub.

    Exit status: 0 all checks passed, 1 something is broken.
    """
    findings = [_examined(check, results) for check in _CHECKS]
    if as_json:
        echo_json([asdict(finding) for finding in findings])
    else:
        click.echo(
            columns([["ok" if f.ok else "BROKEN", f.what, f.found] for f in findings], ["", "what", "found"])
        )
    return 0 if all(finding.ok for finding in findings) else 1


def _examined(check: "Check", results: Path) -> Diagnosis:
    try:
        return check(results)
    except Exception as error:
        # Each check may fail with any error; the doctor's purpose is to report it.
        name = check.__name__.strip("_").replace("_", " ")
        return Diagnosis(name, False, f"{type(error).__name__}: {error}")


def _python(_results: Path) -> Diagnosis:
    return Diagnosis("python", sys.version_info >= (3, 11), sys.version.split()[0])


def _packages(_results: Path) -> Diagnosis:
    broken = list(_unmet_requirements())
    from abench.runs.provenance import package_versions

    versions = ", ".join(
        f"{name} {version}" for name, version in package_versions().items() if name != "python"
    )
    return Diagnosis("packages", not broken, "; ".join(broken) or versions)


def _unmet_requirements() -> Iterator[str]:
    from abench.runs.provenance import NOT_INSTALLED, package_versions, requirements

    for requirement in requirements():
        installed = package_versions()[requirement.name]
        if installed == NOT_INSTALLED:
            yield f"{requirement.name} is not installed"
        elif not requirement.specifier.contains(installed, prereleases=True):
            yield f"{requirement.name} {installed} is not {requirement.specifier}"


def _torch_device(_results: Path) -> Diagnosis:
    from abench.lm.devices import usable_device
    from abench.runs.provenance import device_name

    return Diagnosis("device", True, device_name(usable_device(None)))


def _torchvision(_results: Path) -> Diagnosis:
    hidden = "torchvision" in sys.modules and sys.modules["torchvision"] is None
    return Diagnosis(
        "torchvision",
        True,
        "does not work with this torch, so it is hidden; abench does not need it" if hidden else "fine",
    )


def _bundled_model(_results: Path) -> Diagnosis:
    import torch

    from abench.lm.models import LanguageModel
    from abench.tinyworld import MODEL_DIR, World

    lm = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    ids = lm.token_ids([next(World().texts("test"))])[0]
    tokens = torch.tensor([lm.packed(ids)])
    loss = -float(lm.log_probs(tokens).mean())
    return Diagnosis(
        "bundled model", loss < 4, f"{lm.n_layers} layers of width {lm.d_model}, {loss:.2f} nats per token"
    )


def _variants(_results: Path) -> Diagnosis:
    from abench.variants import find_variants

    return _plugins("variants", find_variants())


def _tasks(_results: Path) -> Diagnosis:
    from abench.plugins import find_tasks

    return _plugins("tasks", find_tasks())


def _plugins(what: str, found: "Mapping[str, Found[Any]]") -> Diagnosis:
    """All plug-ins of a kind, or those that cannot be used, with the reason."""
    broken = [f"{each.name} ({each.source}): {each.summary}" for each in found.values() if each.value is None]
    return Diagnosis(what, not broken, "; ".join(broken) or ", ".join(found))


def _results_folder(results: Path) -> Diagnosis:
    from abench.results.store import Store

    if Store.exists(results):
        Store.open(results, create=True)
    place = next(p for p in (results.resolve(), *results.resolve().parents) if p.exists())
    free = shutil.disk_usage(place).free >> 30
    return Diagnosis("results folder", True, f"{results} ({free} GiB free)")


def _hub(_results: Path) -> Diagnosis:
    from abench.lm.hub import offline_reason

    reason = offline_reason()
    return Diagnosis(
        "hub", True, "reachable" if reason is None else f"{reason}; the bundled model does not need it"
    )


Check = Callable[[Path], Diagnosis]
_CHECKS: tuple[Check, ...] = (
    _python,
    _packages,
    _torch_device,
    _torchvision,
    _bundled_model,
    _variants,
    _tasks,
    _results_folder,
    _hub,
)
