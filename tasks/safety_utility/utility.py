"""A model's remaining ability: four-way questions, run and scored by lm-eval.

Uses stock MMLU, or the tiny world's questions on the bundled model. lm-eval receives the model object itself,
so an active intervention affects the answers. Answers are never cached (lm-eval's `use_cache` would return
the unsteered ones).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from abench import Amount, Context, hush_libraries, read_hub
from abench.judges import Share, share
from abench.tinyworld import World

from .._shared.labelled import is_tiny

if TYPE_CHECKING:
    from abench import LanguageModel

MMLU = "cais/mmlu"

QuestionPart = Literal["validation", "test"]
"""Settings are chosen on the validation part; results are reported on the test part."""

BATCH_SIZE = 64
_TINY = {
    "task": "tinyworld_questions",
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
    """Maximum number of questions, per subject for MMLU's 57 subjects, in total in the tiny world; None means
    all."""
    shots: int = 0
    revision: str | None = None
    """Commit, tag or branch of MMLU's data set; None means its current state."""

    def __call__(self) -> Share:
        """Share of questions answered correctly under the currently active intervention."""
        from lm_eval import evaluate

        limit, number = None if is_tiny(self.ctx) else self.questions, self.amount().used
        title = f"safety_utility: {self.part} questions"
        # lm-eval processes a question once for all its choices, as each of them is a single token.
        with (
            self.ctx.steps(title, number, "questions") as steps,
            _counted(self.lm.model, lambda rows: steps.advance_to(min(rows, number))),
            _quiet(),
        ):
            found = evaluate(self._lm_eval, self._tasks, limit=limit, bootstrap_iters=0, log_samples=False)
        counts = {name: n["effective"] for name, n in found["n-samples"].items()}
        right = sum(round(found["results"][name]["acc,none"] * n) for name, n in counts.items())
        return share(right, sum(counts.values()))

    def amount(self) -> Amount:
        """The number of available questions out of those requested."""
        if is_tiny(self.ctx):
            [task] = self._tasks["tasks"].values()
            sizes = [len(task.dataset["test"])]
        else:
            sizes = [len(task.dataset[self.part]) for task in self._tasks["tasks"].values()]
        wanted = self.questions
        used = sum(size if wanted is None else min(size, wanted) for size in sizes)
        return Amount(f"{self.part} questions", used, used if wanted is None else wanted * len(sizes))

    @cached_property
    def _lm_eval(self) -> Any:
        longest = self.ctx.context_size if is_tiny(self.ctx) else self.lm.max_context
        with _quiet():
            return _for_lm_eval(self.lm, batch_size=BATCH_SIZE, max_length=longest)

    @property
    def _tasks(self) -> Any:
        with _quiet():
            return self._tiny_tasks if is_tiny(self.ctx) else self._mmlu()

    @cached_property
    def _tiny_tasks(self) -> Any:
        from datasets import Dataset
        from lm_eval.api.task import ConfigurableTask

        asked = World().questions(split=self.part, seed=self.ctx.evaluation.seed)
        # Facts are ordered by subject; a subset must cover all subjects.
        step = 1 if self.questions is None else max(1, len(asked) // self.questions)
        rows = [{"prompt": each.prompt, "answer": each.answer} for each in asked[::step][: self.questions]]
        task = ConfigurableTask(
            config={**_TINY, "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)}}
        )
        return {"tasks": {_TINY["task"]: task}}

    def _mmlu(self) -> Any:
        found = _stock_mmlu(self.revision)
        # Both parts use the same group, which is read once.
        for task in found["tasks"].values():
            task.config.test_split = self.part
            task.config.num_fewshot = self.shots
        return found


@lru_cache(maxsize=1)
def _stock_mmlu(revision: str | None) -> Any:
    """lm-eval's own group of 57 subjects; raises UserError for data that cannot be read."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    stock = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default"

    def read() -> Any:
        with TemporaryDirectory() as folder:
            name = _held_at(revision, Path(folder)) if revision is not None else "mmlu"
            return TaskManager(include_defaults=False, include_path=[str(stock), folder]).load([name])

    return read_hub(MMLU, read, lambda found: [t.dataset["test"] for t in found["tasks"].values()], revision)


def _held_at(revision: str, folder: Path) -> str:
    """Write to a folder a group that is `mmlu` at a revision of its data set; returns the group's name."""
    member = {"group": "mmlu", "dataset_kwargs": {"revision": revision}}
    group = {"group": "mmlu_held", "task": [member], "aggregate_metric_list": [{"metric": "acc"}]}
    # JSON is YAML, too.
    (folder / "mmlu_held.yaml").write_text(json.dumps(group), encoding="utf-8")
    return "mmlu_held"


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
def _quiet() -> Iterator[None]:
    """Silence lm-eval's progress bars, which have no setting, and its advice; exceptions pass through."""
    hush_libraries()
    with redirect_stderr(StringIO()):
        yield


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
