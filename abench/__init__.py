"""abench: train, score and compare sparse autoencoders, including ones with signed latents.

The names listed here are the public API, together with those in `__all__` of `abench.judges`, `abench.kept`,
`abench.report`, `abench.tinyworld` and `abench.variants`. The built-in tasks use nothing else. Each name is
imported when it is first used, so that `import abench` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from abench._torchvision import hide_if_broken
from abench.version import __version__ as __version__

hide_if_broken()

if TYPE_CHECKING:
    from abench.amounts import Amount
    from abench.config import DataSpec, EvaluationSpec
    from abench.cost import Cost, CostSetting, Work
    from abench.data.loading import load_hub_files, load_hub_split, read_hub
    from abench.data.rows import FILE_ENDINGS, FileRows, load_file, read_file, text_in
    from abench.data.synthetic import SyntheticModel, SyntheticSample
    from abench.data.text_rows import activations_of
    from abench.data.token_rows import TokenRows
    from abench.errors import UserError
    from abench.executors.library import run
    from abench.figures import TaskFigure
    from abench.foreign import hush_libraries
    from abench.kept import Kept
    from abench.latents.anyones import as_sae
    from abench.latents.codes import PoleCodes, PoleRates, sparse_codes
    from abench.latents.context_search import Texts
    from abench.latents.contexts import top_contexts
    from abench.latents.decoding import (
        from_residual_units,
        in_residual_units,
        latent_directions,
        output_gain,
        residual_codes,
    )
    from abench.latents.excerpts import Excerpt, LatentContexts, TopContexts
    from abench.latents.few_latents import latent_codes
    from abench.latents.of_each import OfEach
    from abench.latents.parts import rows_at_once
    from abench.latents.pooling import Pooled, firing_rates, pool
    from abench.latents.reconstruction import Reconstruction, reconstruct
    from abench.latents.views import SplitSAE, base_of
    from abench.lm.models import LanguageModel
    from abench.lm.tokens import ordinary, right_padded, token_rows
    from abench.parts import Parts
    from abench.preconditions import Precondition
    from abench.runs.evaluation import evaluate
    from abench.runs.inputs import InputFile
    from abench.runs.library import plan
    from abench.runs.loading import load_results
    from abench.runs.scored import Scored
    from abench.sae import SAE
    from abench.selection import problems_of, usable_parts
    from abench.sites import site_name
    from abench.steering.candidates import (
        DirectionCandidate,
        LatentCandidate,
        direction_candidates,
        latent_candidates,
        random_directions,
        random_latents,
    )
    from abench.steering.concepts import Concept, LatentDifferences, latent_differences, mean_difference
    from abench.steering.distinct import DistinctDirections
    from abench.steering.gradients import Continuations, objective_gradient
    from abench.steering.interventions import (
        AblateDirection,
        AblateLatents,
        AddDirection,
        ClampLatent,
        Intervention,
        ScaleLatent,
        steered,
    )
    from abench.steering.latent_rankings import (
        ContrastCodes,
        LatentRanking,
        contrast_codes,
        latent_rankings,
    )
    from abench.tables import TaskTable
    from abench.task import Context, Metric, ModelKind, Scores, Skip, Task, View
    from abench.training.library import TrainedSAE, train
    from abench.variants import Variant

_HOME = {
    "SAE": "sae",
    "AblateDirection": "steering.interventions",
    "AblateLatents": "steering.interventions",
    "AddDirection": "steering.interventions",
    "Amount": "amounts",
    "ClampLatent": "steering.interventions",
    "Concept": "steering.concepts",
    "Context": "task",
    "Continuations": "steering.gradients",
    "ContrastCodes": "steering.latent_rankings",
    "Cost": "cost",
    "CostSetting": "cost",
    "DataSpec": "config",
    "DirectionCandidate": "steering.candidates",
    "DistinctDirections": "steering.distinct",
    "EvaluationSpec": "config",
    "Excerpt": "latents.excerpts",
    "FILE_ENDINGS": "data.rows",
    "FileRows": "data.rows",
    "InputFile": "runs.inputs",
    "Intervention": "steering.interventions",
    "Kept": "kept",
    "LanguageModel": "lm.models",
    "LatentCandidate": "steering.candidates",
    "LatentContexts": "latents.excerpts",
    "LatentDifferences": "steering.concepts",
    "LatentRanking": "steering.latent_rankings",
    "Metric": "task",
    "ModelKind": "task",
    "OfEach": "latents.of_each",
    "Parts": "parts",
    "PoleCodes": "latents.codes",
    "PoleRates": "latents.codes",
    "Pooled": "latents.pooling",
    "Precondition": "preconditions",
    "Reconstruction": "latents.reconstruction",
    "ScaleLatent": "steering.interventions",
    "Scored": "runs.scored",
    "Scores": "task",
    "Skip": "task",
    "SplitSAE": "latents.views",
    "SyntheticModel": "data.synthetic",
    "SyntheticSample": "data.synthetic",
    "Task": "task",
    "TaskFigure": "figures",
    "TaskTable": "tables",
    "Texts": "latents.context_search",
    "TokenRows": "data.token_rows",
    "TopContexts": "latents.excerpts",
    "TrainedSAE": "training.library",
    "UserError": "errors",
    "Variant": "variants",
    "View": "task",
    "Work": "cost",
    "activations_of": "data.text_rows",
    "as_sae": "latents.anyones",
    "base_of": "latents.views",
    "contrast_codes": "steering.latent_rankings",
    "direction_candidates": "steering.candidates",
    "evaluate": "runs.evaluation",
    "firing_rates": "latents.pooling",
    "from_residual_units": "latents.decoding",
    "hush_libraries": "foreign",
    "in_residual_units": "latents.decoding",
    "latent_candidates": "steering.candidates",
    "latent_codes": "latents.few_latents",
    "latent_differences": "steering.concepts",
    "latent_directions": "latents.decoding",
    "latent_rankings": "steering.latent_rankings",
    "load_file": "data.rows",
    "load_hub_files": "data.loading",
    "load_hub_split": "data.loading",
    "load_results": "runs.loading",
    "mean_difference": "steering.concepts",
    "objective_gradient": "steering.gradients",
    "ordinary": "lm.tokens",
    "output_gain": "latents.decoding",
    "plan": "runs.library",
    "pool": "latents.pooling",
    "problems_of": "selection",
    "random_directions": "steering.candidates",
    "random_latents": "steering.candidates",
    "read_file": "data.rows",
    "read_hub": "data.loading",
    "reconstruct": "latents.reconstruction",
    "residual_codes": "latents.decoding",
    "right_padded": "lm.tokens",
    "rows_at_once": "latents.parts",
    "run": "executors.library",
    "site_name": "sites",
    "sparse_codes": "latents.codes",
    "steered": "steering.interventions",
    "text_in": "data.rows",
    "token_rows": "lm.tokens",
    "top_contexts": "latents.contexts",
    "train": "training.library",
    "usable_parts": "selection",
}

__all__ = [
    "FILE_ENDINGS",
    "SAE",
    "AblateDirection",
    "AblateLatents",
    "AddDirection",
    "Amount",
    "ClampLatent",
    "Concept",
    "Context",
    "Continuations",
    "ContrastCodes",
    "Cost",
    "CostSetting",
    "DataSpec",
    "DirectionCandidate",
    "DistinctDirections",
    "EvaluationSpec",
    "Excerpt",
    "FileRows",
    "InputFile",
    "Intervention",
    "Kept",
    "LanguageModel",
    "LatentCandidate",
    "LatentContexts",
    "LatentDifferences",
    "LatentRanking",
    "Metric",
    "ModelKind",
    "OfEach",
    "Parts",
    "PoleCodes",
    "PoleRates",
    "Pooled",
    "Precondition",
    "Reconstruction",
    "ScaleLatent",
    "Scored",
    "Scores",
    "Skip",
    "SplitSAE",
    "SyntheticModel",
    "SyntheticSample",
    "Task",
    "TaskFigure",
    "TaskTable",
    "Texts",
    "TokenRows",
    "TopContexts",
    "TrainedSAE",
    "UserError",
    "Variant",
    "View",
    "Work",
    "activations_of",
    "as_sae",
    "base_of",
    "contrast_codes",
    "direction_candidates",
    "evaluate",
    "firing_rates",
    "from_residual_units",
    "hush_libraries",
    "in_residual_units",
    "latent_candidates",
    "latent_codes",
    "latent_differences",
    "latent_directions",
    "latent_rankings",
    "load_file",
    "load_hub_files",
    "load_hub_split",
    "load_results",
    "mean_difference",
    "objective_gradient",
    "ordinary",
    "output_gain",
    "plan",
    "pool",
    "problems_of",
    "random_directions",
    "random_latents",
    "read_file",
    "read_hub",
    "reconstruct",
    "residual_codes",
    "right_padded",
    "rows_at_once",
    "run",
    "site_name",
    "sparse_codes",
    "steered",
    "text_in",
    "token_rows",
    "top_contexts",
    "train",
    "usable_parts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'abench' has no attribute '{name}'")
    return getattr(import_module(f"abench.{_HOME[name]}"), name)
