"""Question tasks of lm-eval by name: MMLU, its continuations, or any other task or group with an accuracy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from zlib import crc32

from abench import UserError, hush_libraries, read_hub

MMLU = "cais/mmlu"
"""The hub's data set of MMLU, whose parts `validation` and `test` are used as they are."""

QuestionPart = Literal["validation", "test"]
"""Settings are chosen on the validation part; results are reported on the test part."""

ACCURACIES = ("acc", "exact_match", "acc_norm", "em")
"""Metrics of lm-eval that are a share of questions answered correctly; a task's first one counts."""
_VALIDATION = 30
"""Percentage of questions for choosing settings, of a task whose data have one part only."""


@dataclass(frozen=True)
class Questions:
    """The questions that measure utility."""

    task: str = "mmlu"
    """A task, group or tag of lm-eval."""
    folder: str | None = None
    """A folder with the questions in the layout of their data set on the hub; None means the hub."""
    revision: str | None = None
    """Commit, tag or branch of MMLU's data set; None means its current state."""

    def load(self) -> Mapping[str, Any]:
        """lm-eval's tasks by name; raises UserError for a name that it lacks, or data that cannot be read."""
        loaded: Mapping[str, Any] = _loaded(self)
        return loaded


@lru_cache(maxsize=2)
def _loaded(questions: Questions) -> Any:
    place, manager = _found(questions.task)
    overrides: dict[str, Any] = {}
    if questions.folder is not None:
        overrides["dataset_path"] = str(Path(questions.folder).resolve())
    elif questions.revision is not None:
        overrides["dataset_kwargs"] = {"revision": questions.revision}

    def read() -> Any:
        if not overrides:
            return manager.load([questions.task])["tasks"]
        with TemporaryDirectory() as folder:
            name = _changed(manager.task_index[questions.task], overrides, Path(folder))
            return _manager(place, folder).load([name])["tasks"]

    repository = _repository(questions.task, manager.task_index)
    if questions.folder is not None or repository is None:
        tasks = _in_words(questions, read)
    else:
        tasks = read_hub(repository, read, lambda found: _splits(found, repository), questions.revision)
    for name, task in tasks.items():
        accuracy(task, name)
    return tasks


def accuracy(task: Any, name: str) -> str:
    """The metric of a task that counts correct answers; raises UserError if it has none."""
    found = list(task.aggregation())
    metric = next((each for each in ACCURACIES if each in found), None)
    if metric is None:
        raise UserError(
            f"safety_utility: utility_task: lm-eval's task '{name}' has no share of correct answers "
            f"({', '.join(ACCURACIES)}), only {', '.join(map(str, found))}: choose another task"
        )
    return metric


def use_part(task: Any, part: QuestionPart) -> Any:
    """Make a task ask the questions of a part; returns them as a data set.

    A task with a validation and a test part is divided in this way, as is MMLU, whose validation part lm-eval
    does not use. Otherwise the task's only part is divided by a hash of each question.
    """
    names = vars(task).setdefault("abench_parts", _parts(task))
    if part not in names:
        whole = task.dataset[names["whole"]]
        chosen = [n for n, row in enumerate(whole) if _is_of(part, row)]
        task.dataset[f"abench_{part}"] = whole.select(chosen)
        names[part] = f"abench_{part}"
    task.config.test_split = names[part]
    return task.dataset[names[part]]


def _parts(task: Any) -> dict[str, str]:
    config = task.config
    if config.dataset_path == MMLU or {"validation", "test", "dev"} <= set(task.dataset):
        return {"validation": "validation", "test": "test"}
    shots = config.fewshot_split
    if config.test_split and config.validation_split and shots != config.validation_split:
        return {"validation": config.validation_split, "test": config.test_split}
    return {"whole": config.test_split or config.validation_split}


def _is_of(part: QuestionPart, row: Mapping[str, Any]) -> bool:
    text = json.dumps(row, sort_keys=True, default=str, ensure_ascii=False)
    return (crc32(text.encode()) % 100 < _VALIDATION) == (part == "validation")


def guessing(task: Any, docs: Any) -> float:
    """The expected share of correct answers if all choices were equally likely; 0 without choices."""
    if task.OUTPUT_TYPE != "multiple_choice" or not len(docs):
        return 0.0
    return sum(1 / len(task.doc_to_choice(doc)) for doc in docs) / len(docs)


def _manager(*places: Path | str) -> Any:
    """lm-eval's index of the tasks in some folders."""
    from lm_eval.tasks import TaskManager

    with quiet():
        return TaskManager(include_defaults=False, include_path=[str(place) for place in places])


def _found(name: str) -> tuple[Path, Any]:
    """The folder of lm-eval's tasks that has this one, and its index; raises UserError if none has.

    lm-eval reads thousands of files to index all its tasks, which takes a minute, so the folder whose name
    begins the task's is read first.
    """
    import lm_eval

    every = Path(lm_eval.__file__).parent / "tasks"
    near = [each for each in every.iterdir() if each.is_dir() and name.startswith(each.name)]
    known: list[str] = []
    for place in [*sorted(near, key=lambda each: -len(each.name))[:1], every]:
        manager = _manager(place)
        if name in manager.task_index:
            return place, manager
        known = manager.all_tasks
    similar = get_close_matches(name, known, 3)
    hint = f"; similar names: {', '.join(similar)}" if similar else ""
    raise UserError(
        f"safety_utility: utility_task: lm-eval has no task, group or tag '{name}'{hint}. "
        "`lm-eval ls tasks` lists all"
    )


def _changed(entry: Any, overrides: Mapping[str, Any], folder: Path) -> str:
    """Write to a folder a group that is a task with other data; returns the group's name."""
    kind = "group" if entry.kind.name == "GROUP" else "task"
    group = {"group": "abench_questions", "task": [{kind: entry.name, **overrides}]}
    # JSON is YAML, too.
    (folder / "abench_questions.yaml").write_text(json.dumps(group), encoding="utf-8")
    return "abench_questions"


def _repository(name: str, index: Mapping[str, Any]) -> str | None:
    """The hub id of a task's data set, or of the first task of a group; None if it is not found."""
    seen: set[str] = set()

    def first(cfg: Mapping[str, Any] | None, tags: Any = ()) -> str | None:
        if cfg and isinstance(cfg.get("dataset_path"), str):
            found: str = cfg["dataset_path"]
            return found
        members = (cfg or {}).get("task") or sorted(tags)
        for member in members if isinstance(members, list) else ():
            if isinstance(member, Mapping):
                found_in = first(member) or of(str(member.get("group") or member.get("task")))
            else:
                found_in = of(member)
            if found_in is not None:
                return found_in
        return None

    def of(name: str) -> str | None:
        if name in seen or name not in index:
            return None
        seen.add(name)
        return first(index[name].cfg, index[name].tags if index[name].kind.name == "TAG" else ())

    return of(name)


def _splits(tasks: Mapping[str, Any], repository: str) -> Iterator[Any]:
    """One split of each task that reads this data set."""
    for task in tasks.values():
        if task.config.dataset_path == repository:
            yield next(iter(task.dataset.values()))


def _in_words(questions: Questions, read: Any) -> Any:
    """The tasks; raises UserError if their data cannot be read."""
    where = "" if questions.folder is None else f" in {questions.folder}"
    if questions.folder is not None and not Path(questions.folder).is_dir():
        raise UserError(f"safety_utility: utility_data: there is no folder {questions.folder}")
    try:
        with quiet():
            return read()
    except Exception as error:
        # lm-eval's tasks and the readers of data sets raise any type of exception.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"safety_utility: the questions of lm-eval's task '{questions.task}'{where} cannot be read: "
            f"{lines[0].rstrip(' .')}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence lm-eval's progress bars, which have no setting, and its advice; exceptions pass through."""
    hush_libraries()
    with redirect_stderr(StringIO()):
        yield
