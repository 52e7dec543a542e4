"""Tasks read their data sets at the revision that they are told, with the hub and without it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub.client import ask, client_environment
from hub.commands import options, small_run
from hub.contents import DATASETS, make_hub
from hub.models import small_config
from hub.repository import with_older
from hub.server import MEMBER_TOKEN, Fault, Hub

from abench import Task, UserError
from abench.config import EvaluationSpec, RunConfig
from abench.plugins import find_tasks, get_task
from abench.results.store import Store
from abench.runs.plan import make_plan

pytestmark = pytest.mark.slow

TEXTS = "labelled_hub.texts_by_class({name!r}, 8, 4, seed=0, revisions=at)"
QUESTIONS = "texts.questions(ctx, ('human_aging',), at)[{subject!r}]"
RAVEL = (
    "prompts.prompts_by_kind({'city': ('Country', 'Language')}, ctx, None, "
    "at.get('adamkarvonen/ravel_prompts'))"
)
REQUESTS = "requests(ctx, 'test', 99, harmful=None, harmless=None, revisions=at).{kind}"
READ = {
    "LabHC/bias_in_bios": TEXTS.format(name="LabHC/bias_in_bios_class_set1"),
    "canrager/amazon_reviews_mcauley_1and5": TEXTS.format(name="canrager/amazon_reviews_mcauley_1and5"),
    "fancyzhx/ag_news": TEXTS.format(name="fancyzhx/ag_news"),
    "Helsinki-NLP/europarl": TEXTS.format(name="Helsinki-NLP/europarl"),
    "codeparrot/github-code": TEXTS.format(name="codeparrot/github-code"),
    "adamkarvonen/ravel_prompts": RAVEL,
    "cais/wmdp": QUESTIONS.format(subject="wmdp-bio"),
    "cais/mmlu": QUESTIONS.format(subject="human_aging"),
    "cais/wmdp-bio-forget-corpus": "list(texts.forget_documents(ctx, None, at))",
    "Salesforce/wikitext": "list(texts.retain_documents(ctx, at))",
    "walledai/HarmBench": REQUESTS.format(kind="harmful"),
    "tatsu-lab/alpaca": REQUESTS.format(kind="harmless"),
}
"""Data set -> how tasks read it, at the revisions `at`."""
CORNERS = "labelled_hub.corners('LabHC/bias_in_bios', ('professor', 'nurse'), 8, 4, revisions=at)"
STOCK_MMLU = (
    "[len(t.dataset['test']) for t in lm_eval_tasks.Questions(revision=at.get('cais/mmlu')).load().values()]"
)

CODE = """
from abench import Context
from abench.config import DataSpec, EvaluationSpec
from abench.tasks._shared import labelled_hub
from abench.tasks.ravel import prompts
from abench.tasks.safety_utility import lm_eval_tasks
from abench.tasks.safety_utility.requests import requests
from abench.tasks.unlearning import texts
ctx, at = Context("blocks.1.hook_resid_post", EvaluationSpec(), DataSpec(), 16), {at}
answer = repr({read})
"""


def reading(read: str, **at: str) -> str:
    return CODE.format(read=read, at=at)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    with make_hub(folder, models=["pythia-70m"], small=True) as hub:
        for name in READ:
            known = hub.repositories["datasets", name]
            hub.repositories["datasets", name] = with_older(known, folder / "older" / name)
        yield hub


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def read(hub: Hub, home: Path) -> dict[tuple[str, str | None], dict[str, Any]]:
    """What each data set gave now, at its tag, at the tag's commit, and at one that does not exist."""
    requests: dict[tuple[str, str | None], str] = {}
    for name, code in [*READ.items(), ("corners", CORNERS), ("lm-eval", STOCK_MMLU)]:
        repository = {"corners": "LabHC/bias_in_bios", "lm-eval": "cais/mmlu"}.get(name, name)
        requests[name, None] = reading(code)
        for revision in ("older", "v9"):
            requests[name, revision] = reading(code, **{repository: revision})
    sha = hub.repositories["datasets", "fancyzhx/ag_news"].tags["older"].sha
    requests["fancyzhx/ag_news", "commit"] = reading(READ["fancyzhx/ag_news"], **{"fancyzhx/ag_news": sha})
    answers = ask(client_environment(hub, home, token=MEMBER_TOKEN), *requests.values())
    return dict(zip(requests, answers, strict=True))


def test_every_data_set_of_a_task_is_read_here() -> None:
    tasks = [each.value for each in find_tasks().values() if each.value is not None]
    named = {repository for task in tasks for repository in getattr(task, "repositories", ())}
    assert named == set(READ)
    assert named <= set(DATASETS)


@pytest.mark.parametrize("name", [*READ, "corners", "lm-eval"])
def test_two_revisions_give_different_data(read: dict[Any, dict[str, Any]], name: str) -> None:
    now, older = read[name, None], read[name, "older"]
    assert "error" not in now, now
    assert "error" not in older, older
    assert now["answer"] != older["answer"]


def test_a_commit_is_what_its_tag_is(read: dict[Any, dict[str, Any]]) -> None:
    assert read["fancyzhx/ag_news", "commit"]["answer"] == read["fancyzhx/ag_news", "older"]["answer"]


@pytest.mark.parametrize("name", [*READ, "corners", "lm-eval"])
def test_an_unknown_revision_is_one_sentence(read: dict[Any, dict[str, Any]], name: str) -> None:
    error = read[name, "v9"]["error"]
    assert error.startswith("UserError: ")
    assert "the hub has no revision 'v9' of it" in error
    assert "\n" not in error


def test_without_the_hub_no_revision_passes_for_another(hub: Hub, home: Path, read: dict[Any, Any]) -> None:
    """What datasets finds in its cache by itself is whatever was prepared last."""
    name = "LabHC/bias_in_bios"
    cases = ({name: "older"}, {}, {name: "v9"})
    older, now, absent = ask(
        client_environment(hub, home, offline=True), *(reading(READ[name], **at) for at in cases)
    )
    assert older["answer"] == read[name, "older"]["answer"]
    assert "the copy on this machine is not revision 'main'" in now["error"]
    assert "HF_HUB_OFFLINE is set, and this machine has no record of its revision 'v9'" in absent["error"]


def test_a_hub_that_fails_is_not_replaced_by_what_was_prepared_last(hub: Hub, home: Path, read: Any) -> None:
    name = "LabHC/bias_in_bios"
    hub.faults[:] = [Fault(rf"/api/datasets/{name}", times=99, status=500)]
    (answer,) = ask(client_environment(hub, home, token=MEMBER_TOKEN), reading(READ[name]))
    hub.faults.clear()
    assert answer["error"].startswith(f"UserError: the data set {name} cannot be read: Server error '500")


TASKS = {
    "sparse_probing": ("fancyzhx/ag_news", {"datasets": ["fancyzhx/ag_news"]}),
    "scr": ("LabHC/bias_in_bios", {}),
    "tpp": ("LabHC/bias_in_bios", {"datasets": ["LabHC/bias_in_bios_class_set1"]}),
    "ravel": ("adamkarvonen/ravel_prompts", {}),
    "unlearning": ("cais/wmdp", {}),
    "safety_utility": ("tatsu-lab/alpaca", {"judge": "substring", "max_new_tokens": 1}),
}
"""Task -> a data set of its own, and options with which it is read first."""


def test_the_option_reaches_the_hub_from_every_task(hub: Hub, home: Path, tmp_path: Path) -> None:
    given = {task: {**more, "revisions": {name: "v9"}} for task, (name, more) in TASKS.items()}
    command = small_run(
        small_config("pythia-70m", home), tmp_path, "--tasks", ",".join(TASKS), *options(given)
    )
    (answer,) = ask(client_environment(hub, home, token=MEMBER_TOKEN), command)
    assert answer["code"] == 3, answer["err"]
    records = [record for _, record in Store.open(tmp_path, create=False).all_records()]
    assert {record.labels["task"] for record in records} == set(TASKS)
    for record in records:
        name = TASKS[record.labels["task"]][0]
        assert record.status == "failed"
        assert record.reason is not None
        assert name in record.reason
        assert "the hub has no revision 'v9' of it" in record.reason


@pytest.mark.parametrize("name", TASKS)
def test_a_revision_is_part_of_the_key(name: str) -> None:
    from abench.config import model_config
    from abench.variants import get_variant

    def key(**options: Any) -> str:
        config = RunConfig(evaluation=EvaluationSpec(limit=3), tasks=(name,), variants=("topk",))
        tasks: dict[str, Task] = {name: get_task(name, options, find_tasks())}
        variants = {"topk": get_variant("topk", {})}
        return make_plan(config, "m", model_config("tiny"), variants, tasks, commit="c").cells[0].key

    repository = TASKS[name][0]
    keys = [key(), key(revisions={repository: "a"}), key(revisions={repository: "b"})]
    assert len(set(keys)) == 3


def test_a_data_set_that_the_task_does_not_read_is_refused() -> None:
    with pytest.raises(UserError, match=r"task 'tpp': revisions: the task does not read 'cais/mmlu', only"):
        get_task("tpp", {"revisions": {"cais/mmlu": "a"}}, find_tasks())
    get_task("safety_utility", {"harmful": "me/mine", "revisions": {"me/mine": "a"}}, find_tasks())
