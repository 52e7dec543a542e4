"""A model's remaining ability: questions, run and scored by lm-eval.

Uses any task of lm-eval, stock MMLU by default, or the tiny world's questions on the bundled model. lm-eval
receives the model object itself, so an active intervention affects the answers. Answers are never cached
(lm-eval's `use_cache` would return the unsteered ones).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from abench import Amount, Context
from abench.judges import Share, share
from abench.tinyworld import World

from .._shared.labelled import is_tiny
from .lm_eval_tasks import QuestionPart, Questions, accuracy, guessing, quiet, use_part

if TYPE_CHECKING:
    from abench import LanguageModel

BATCH_SIZE = 64
_TINY_NAME = "tinyworld_questions"
_TINY = {
    "task": _TINY_NAME,
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "{{prompt}}",
    "doc_to_choice": ["a", "b", "c", "d"],
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


@dataclass(frozen=True, eq=False)
class Utility:
    """The questions of one part."""

    lm: LanguageModel
    ctx: Context
    part: QuestionPart
    questions: int | None
    """Maximum number of questions, for each task of a group such as MMLU's 57 subjects; None means all."""
    shots: int = 0
    source: Questions | None = None
    """None: the tiny world's own questions."""

    def __call__(self) -> Share:
        """Share of questions answered correctly under the currently active intervention."""
        from lm_eval import evaluate

        limit, number = self.questions if self.source else None, self.amount().used
        tasks = self._tasks
        title = f"safety_utility: {self.part} questions"
        # lm-eval processes a question once for all its choices if each of them is a single token.
        with (
            self.ctx.steps(title, number, "questions") as steps,
            _counted(self.lm.model, lambda rows: steps.advance_to(min(rows, number))),
            quiet(),
        ):
            found = evaluate(
                self._lm_eval, {"tasks": tasks}, limit=limit, bootstrap_iters=0, log_samples=False
            )
        counts = {name: n["effective"] for name, n in found["n-samples"].items()}
        shares = {name: _share(found["results"][name], accuracy(tasks[name], name)) for name in counts}
        right = sum(round(shares[name] * n) for name, n in counts.items())
        return share(right, sum(counts.values()))

    def amount(self) -> Amount:
        """The number of available questions out of those requested."""
        sizes = [len(docs) for docs in self._docs().values()]
        wanted = self.questions
        used = sum(size if wanted is None else min(size, wanted) for size in sizes)
        return Amount(f"{self.part} questions", used, used if wanted is None else wanted * len(sizes))

    def chance(self) -> float:
        """The expected share of correct answers if all choices were equally likely."""
        tasks, total, right = self._tasks, 0, 0.0
        for name, docs in self._docs().items():
            asked = docs if self.questions is None else docs.select(range(min(len(docs), self.questions)))
            right += guessing(tasks[name], asked) * len(asked)
            total += len(asked)
        return right / total

    @property
    def name(self) -> str:
        """The name of lm-eval's task."""
        return _TINY_NAME if self.source is None else self.source.task

    @cached_property
    def _lm_eval(self) -> Any:
        longest = self.ctx.context_size if is_tiny(self.ctx) else self.lm.max_context
        with quiet():
            return _for_lm_eval(self.lm, batch_size=BATCH_SIZE, max_length=longest)

    @property
    def _tasks(self) -> Mapping[str, Any]:
        if self.source is None:
            with quiet():
                return {_TINY_NAME: self._tiny_task}
        tasks = self.source.load()
        # Both parts use the same tasks, which are read once.
        for task in tasks.values():
            use_part(task, self.part)
            task.config.num_fewshot = self.shots
        return tasks

    def _docs(self) -> dict[str, Any]:
        """The questions of each task, without what a task's own preparation leaves out."""
        tasks = self._tasks
        return {name: task.dataset[task.config.test_split] for name, task in tasks.items()}

    @cached_property
    def _tiny_task(self) -> Any:
        from datasets import Dataset
        from lm_eval.api.task import ConfigurableTask

        asked = World().questions(split=self.part, seed=self.ctx.evaluation.seed)
        # Facts are ordered by subject; a subset must cover all subjects.
        step = 1 if self.questions is None else max(1, len(asked) // self.questions)
        rows = [{"prompt": each.prompt, "answer": each.answer} for each in asked[::step][: self.questions]]
        return ConfigurableTask(
            config={**_TINY, "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)}}
        )


def _share(results: Mapping[str, Any], metric: str) -> float:
    """A task's metric, whatever filter its answers pass through."""
    return float(next(value for name, value in results.items() if name.partition(",")[0] == metric))


def _for_lm_eval(lm: LanguageModel, **options: Any) -> Any:
    """A model as lm-eval takes it."""
    from lm_eval.models.huggingface import HFLM

    class Wrapped(HFLM):
        """Computes logits with abench's model, which computes a batch in parts if memory runs out."""

        @property
        def device(self) -> Any:
            return lm.device

        def _model_call(self, inps: Any, attn_mask: Any = None, labels: Any = None) -> Any:
            return lm.logits(inps)

    # A softmax in a model's own bfloat16 would give letters of nearly equal probability the same one.
    return Wrapped(pretrained=lm.model, tokenizer=lm.tokenizer, softmax_dtype="float32", **options)


@contextmanager
def _counted(model: Any, seen: Callable[[int], None]) -> Iterator[None]:
    """While active, call `seen` with the number of rows that the model has processed so far."""
    rows = 0

    def count(_module: Any, _inputs: Any, output: Any) -> None:
        nonlocal rows
        rows += len(output.logits)
        seen(rows)

    handle = model.register_forward_hook(count)
    try:
        yield
    finally:
        handle.remove()
