"""What a plan's report says about the run."""

from collections.abc import Iterable, Iterator

from abench.report.about import About
from abench.results.jobs import SAEJob
from abench.runs.plan import Plan


def about_run(plan: Plan) -> About | None:
    """The description of the run for its report; None for a plan that was not made from a request."""
    if plan.origin is None:
        return None
    return About(
        command=plan.origin.command,
        configuration=plan.origin.configuration,
        facts=dict(_facts(plan)),
        plugins=plan.origin.plugins,
        model={
            "name": plan.model.name,
            "commit": plan.model.commit,
            "dtype": plan.model.dtype,
            "context": plan.model.context,
        },
    )


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    """(heading, text) pairs of what a reader of the tables must know."""
    model, evaluation = plan.model, plan.config.evaluation
    yield "Model", f"{model.config.title}, {model.dtype}, contexts of {model.context:,} tokens"
    yield "Sites", _listed(group.site for group in plan.groups)
    trained = [sae for sae in plan.saes if isinstance(sae, SAEJob)]
    if trained:
        labels = [sae.labels() for sae in trained]
        names = _listed(each["variant"] for each in labels)
        yield "SAEs", f"{len(trained)} trained: {names}"
        for heading, name in (("k", "k"), ("Latents", "width"), ("Seeds", "seed")):
            yield heading, _listed(f"{each[name]:,}" for each in labels)
        yield from _training(trained)
    if others := [sae.label for sae in plan.saes if not sae.trained]:
        yield "SAEs not trained by abench", _listed(others)
    yield "Tasks", _listed(cell.task.name for cell in plan.cells)
    limit = "" if evaluation.limit is None else f", at most {evaluation.limit:,} items per data set"
    yield "Evaluation", f"{evaluation.tokens:,} tokens, seed {evaluation.seed}{limit}"
    yield "Text", " ".join(filter(None, (plan.data.source, plan.data.dataset)))


def _training(trained: list[SAEJob]) -> Iterator[tuple[str, str]]:
    each = list(dict.fromkeys(sae.training for sae in trained))
    yield (
        "Training",
        "; ".join(
            dict.fromkeys(
                f"{one.tokens:,} tokens per SAE ({one.steps:,} steps of {one.batch_size:,})" for one in each
            )
        ),
    )
    yield "Learning rate", _listed(f"{one.learning_rate:g}" for one in each)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
