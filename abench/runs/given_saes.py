"""From the names of SAEs in a run's description to the SAEs that its plan scores."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from abench.config import DataSpec, ModelConfig, RunConfig, config_names, model_config
from abench.errors import UserError
from abench.importing import ImportedSAE
from abench.results.jobs import ModelRef
from abench.runs.given import GivenSAE
from abench.runs.plan import Refused
from abench.sites import layer_of

T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """The SAEs that a run names in `saes`: what was understood of each."""

    saes: tuple[ImportedSAE, ...] = ()
    refused: tuple[Refused, ...] = ()

    def model(self) -> str:
        """The model that the SAEs state; raises UserError unless all that state one agree."""
        stated = sorted({sae.model for sae in self.saes if sae.model is not None})
        if len(stated) == 1:
            return _by_weights().get(stated[0], stated[0])
        found = f"they state {' and '.join(stated)}" if stated else "their files do not state it"
        raise UserError(f"the model of the SAEs is needed ({found}): give it with --model")

    def context(self) -> int | None:
        """The context size that all SAEs which state one agree on; None if there is none."""
        stated = {sae.context for sae in self.saes if sae.context is not None}
        return stated.pop() if len(stated) == 1 else None

    def contexts(self) -> list[int]:
        """All context sizes that SAEs state."""
        return sorted({sae.context for sae in self.saes if sae.context is not None})


def _by_weights() -> dict[str, str]:
    """Where the weights of the models that come with abench are from -> the model's name."""
    return {model_config(name).source: name for name in config_names("models")}


def read_given(names: Sequence[str]) -> Given:
    """What is understood of each SAE. Raises UserError if there are names and none of them can be read."""
    from abench.importing import read_sae  # here, since it imports torch, which plans need only for this

    return usable_of([(name, name) for name in names], read_sae)


def usable_of(
    named: Iterable[tuple[str, T]], take: Callable[[T], ImportedSAE], refused: Sequence[Refused] = ()
) -> Given:
    """The SAEs that `take` gives for (name, thing) pairs; those for which it raises UserError are refused.

    Raises UserError, with all reasons, if some are refused and none is left.
    """
    saes: list[ImportedSAE] = []
    problems = list(refused)
    for name, thing in named:
        try:
            saes.append(take(thing))
        except UserError as error:
            problems.append(Refused(name, str(error)))
    if problems and not saes:
        raise UserError("; ".join(each.reason for each in problems))
    return Given(tuple(saes), tuple(problems))


def fitting(given: Given, config: RunConfig, model: ModelConfig) -> Given:
    """The SAEs that fit the model and have a site; the others are refused.

    Raises UserError if none of them fits.
    """

    def checked(sae: ImportedSAE) -> ImportedSAE:
        _check_fit(sae, _site(sae, config), model)
        return sae

    return usable_of([(sae.name, sae) for sae in given.saes], checked, given.refused)


def _site(sae: ImportedSAE, config: RunConfig) -> str:
    site = config.sae_site or sae.site
    if site is None:
        raise UserError(
            f"the files of the SAE {sae.name} do not state which site it reads: give it with --site, e.g. "
            "blocks.6.hook_resid_post"
        )
    return site


def _check_fit(sae: ImportedSAE, site: str, model: ModelConfig) -> None:
    if model.kind != "language":
        raise UserError(f"{model.title} is a synthetic model: only SAEs that abench trains can read it")
    if (layer := layer_of(site)) >= model.n_layers:
        raise UserError(
            f"the SAE {sae.name} reads {site}, but {model.title} has blocks 0 to {model.n_layers - 1}, not "
            f"{layer}"
        )
    if sae.d_in != model.d_model:
        raise UserError(
            f"the SAE {sae.name} takes activations of width {sae.d_in}, but those of {model.title} are of "
            f"width {model.d_model}"
        )


def jobs_of(
    given: Given, config: RunConfig, data: DataSpec, text: str | None
) -> Callable[[ModelRef], Sequence[GivenSAE]]:
    """The SAEs of a plan, once its model is known; their names differ from each other's and the variants'.

    `data` is the text that they are scored on, and `text` its identity if it is on this machine.
    """
    names = _distinct(given.saes, Counter(config.variants))

    def jobs(model: ModelRef) -> Sequence[GivenSAE]:
        return [
            GivenSAE(
                model=model,
                site=_site(sae, config),
                name=names[sae],
                k=sae.k,
                width=sae.width,
                data=data,
                text=text,
                source=sae,
            )
            for sae in given.saes
        ]

    return jobs


def _distinct(saes: Sequence[ImportedSAE], taken: Counter[str]) -> Mapping[ImportedSAE, str]:
    """A name per SAE; with digits of its identity where the name alone is not unique."""
    times = taken + Counter(sae.name for sae in saes)
    return {sae: sae.name if times[sae.name] == 1 else f"{sae.name}-{sae.identity[:8]}" for sae in saes}
