"""The judge that a task's options name."""

from __future__ import annotations

from typing import Protocol

from abench import Context, UserError
from abench.judges import (
    Endpoint,
    HarmBenchClassifier,
    Judge,
    OpenAIJudge,
    SubstringJudge,
    TinyWorldOracle,
    own_judge,
)

from .._shared.labelled import is_tiny
from .._shared.revisions import Revisions

HARMBENCH_CLASSIFIER = "cais/HarmBench-Llama-2-13b-cls"


class JudgeOptions(Protocol):
    """The options that a judge is made from, as the task documents them."""

    @property
    def judge(self) -> str: ...

    @property
    def judge_model(self) -> str | None: ...

    @property
    def revisions(self) -> Revisions: ...

    def endpoint(self) -> Endpoint: ...


def kind_of_judge(options: JudgeOptions, ctx: Context) -> str:
    """The judge's name, with `auto` decided by the data."""
    if options.judge != "auto":
        return options.judge
    return "tinyworld" if is_tiny(ctx) else "harmbench"


def judge_of(options: JudgeOptions, ctx: Context) -> Judge:
    """The judge; raises UserError if it lacks a model's name or a key, before anything is asked."""
    kind = kind_of_judge(options, ctx)
    if kind == "tinyworld":
        return TinyWorldOracle()
    if kind == "substring":
        return SubstringJudge()
    if kind == "harmbench":
        model = options.judge_model or HARMBENCH_CLASSIFIER
        return HarmBenchClassifier(model, revision=options.revisions.get(model), device=ctx.device)
    if kind != "openai":
        return own_judge(kind)
    if options.judge_model is None:
        raise UserError("safety_utility: set judge_model to the name of the endpoint's model")
    endpoint = options.endpoint()
    # A missing key is reported now, before the model has run for an hour.
    endpoint.key()
    return OpenAIJudge(endpoint, ctx.kept, say=ctx.say)
