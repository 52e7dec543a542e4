"""What the report of one or several plans says about the run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from abench.report.about import About
from abench.results.jobs import SAEJob
from abench.runs.plan import Plan


def about_run(plans: Sequence[Plan]) -> About | None:
    """The description of the run for its report; None for plans that were not made from a request."""
    origins = [plan.origin for plan in plans if plan.origin is not None]
    if not origins:
        return None
    models = [_model(plan) for plan in plans]
    return About(
        command=origins[0].command,
        configuration=_together([origin.configuration for origin in origins]),
        facts=_joined([dict(_facts(plan)) for plan in plans]),
        plugins=origins[0].plugins,
        model=models[0] if len(models) == 1 else {str(model["name"]): model for model in models},
    )


def _model(plan: Plan) -> dict[str, Any]:
    names = ("name", "commit", "dtype", "context")
    return {name: getattr(plan.model, name) for name in names}


def _together(configurations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One configuration for all runs: keys in which they differ are in an entry of `each` per run."""
    first, *rest = configurations
    if not rest:
        return first
    differing = [key for key in first if key == "model" or any(each[key] != first[key] for each in rest)]
    common = {key: value for key, value in first.items() if key not in differing}
    return {**common, "each": [{key: one[key] for key in differing} for one in configurations]}


def _joined(each: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The facts of all runs, without repetitions, by heading."""
    headings = dict.fromkeys(heading for facts in each for heading in facts)
    return {
        heading: "; ".join(dict.fromkeys(facts[heading] for facts in each if heading in facts))
        for heading in headings
    }


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    """(heading, text) pairs of what a reader of the tables must know."""
    model, evaluation = plan.model, plan.config.evaluation
    yield "Model", f"{model.config.title}, {model.dtype}, contexts of {model.context:,} tokens"
    yield "Sites", _listed(group.site for group in plan.groups)
    trained = [sae for sae in plan.saes if isinstance(sae, SAEJob)]
    if trained:
        labels = [sae.labels() for sae in trained]
        yield "SAEs", f"{len(trained)} trained: {_listed(each['variant'] for each in labels)}"
        for heading, name in (("k", "k"), ("Latents", "width"), ("Seeds", "seed")):
            yield heading, _listed(f"{each[name]:,}" for each in labels)
        yield from _training(trained)
    if others := [sae.label for sae in plan.saes if not sae.trained]:
        yield "SAEs not trained by abench", _listed(others)
    yield "Tasks", _listed(cell.task.name for cell in plan.cells)
    limit = "" if evaluation.limit is None else f", at most {evaluation.limit:,} items per data set"
    yield "Evaluation", f"{evaluation.tokens:,} tokens, seed {evaluation.seed}{limit}"
    yield "Text", " ".join(filter(None, (plan.data.source, plan.data.dataset)))


def _training(trained: Sequence[SAEJob]) -> Iterator[tuple[str, str]]:
    each = list(dict.fromkeys(sae.training for sae in trained))
    sizes = (f"{one.tokens:,} tokens per SAE ({one.steps:,} steps of {one.batch_size:,})" for one in each)
    yield "Training", "; ".join(dict.fromkeys(sizes))
    yield "Learning rate", _listed(f"{one.learning_rate:g}" for one in each)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
