"""Parts of a score: all that are needed or one error for all that fail, or only those that are available."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ravel_files
import torch
from abench.tasks.ravel import Ravel
from abench.tasks.scr import SCR
from abench.tasks.sparse_probing import SparseProbing
from abench.tasks.tpp import TPP
from command import SMALL, Abench, Result
from ravel_saes import rotated
from signed import random_sae
from test_labelled_hub import AMAZON, BIOS, CODE, HUB, NEWS, context_of, hub, repositories, serve

from abench import Context, LanguageModel, Parts, Skip, Task, UserError, problems_of, usable_parts
from abench.config import DataSpec, EvaluationSpec
from abench.storage.faults import StorageError
from abench.task import reason_to_skip
from abench.tinyworld import MODEL_DIR

__all__ = ["hub", "repositories"]  # fixtures

SITE = "blocks.0.hook_resid_post"
DATA = DataSpec(source="hub", dataset=None)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", dtype="float64", eos_after_documents=True)


# --- the search for parts -----------------------------------------------------------------------------------


def fails(**errors: Exception) -> dict[str, Skip | UserError]:
    def check(name: str) -> None:
        if name in errors:
            raise errors[name]

    return problems_of(("a", "b", "c"), check)


def usable(problems: dict[str, Skip | UserError], **more: Any) -> Parts:
    return usable_parts("sets", ("a", "b", "c"), problems, **{"available": False, "go_on": "type c", **more})


def test_all_problems_are_named_at_once_with_what_to_type() -> None:
    with pytest.raises(Skip, match=r"^a is small; b is small; type c$"):
        usable(fails(a=Skip("a is small."), b=Skip("b is small")))
    with pytest.raises(UserError, match=r"^a is small; b is broken; type c$"):
        usable(fails(a=Skip("a is small"), b=UserError("b is broken")))
    with pytest.raises(Skip, match=r"^one reason; type c$"):
        usable(fails(a=Skip("one reason"), b=Skip("one reason")))


@pytest.mark.parametrize("available", [False, True])
def test_without_any_part_there_is_nothing_to_type(available: bool) -> None:
    problems = fails(**{name: Skip(f"{name} is small") for name in "abc"})
    with pytest.raises(Skip, match=r"^a is small; b is small; c is small; none of the 3 sets can be used$"):
        usable(problems, available=available)


def test_available_parts() -> None:
    found = usable(fails(b=Skip("b is small")), available=True, not_selected=("d",))
    assert found == Parts("sets", ("a", "c"), {"d": "not selected", "b": "b is small"})


def test_other_errors_are_not_a_parts_problem() -> None:
    for error in (StorageError("the disk is full"), ValueError("a bug")):
        with pytest.raises(type(error)):
            fails(a=error)


# --- RAVEL --------------------------------------------------------------------------------------------------


def people_without(folder: Path, *attributes: str) -> None:
    """Give all people a wrong answer about these attributes, which the model therefore never completes."""
    file = folder / "ravel_nobel_prize_winner_entity_attributes.json"
    people = json.loads(file.read_text(encoding="utf-8"))
    for person in people.values():
        person |= dict.fromkeys(attributes, "nowhere")
    file.write_text(json.dumps(people), encoding="utf-8")


ATTRIBUTES = {
    "city": ("country", "continent", "language"),
    "nobel_prize_winner": ("country", "field", "gender"),
}
FEWER = {"city": ("country", "continent", "language"), "nobel_prize_winner": ("country", "gender")}


@pytest.fixture
def no_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """RAVEL's files, about whose people the bundled model knows everything but the field."""
    folder = ravel_files.cache(tmp_path / "hub", monkeypatch)
    people_without(folder, "field")
    return folder


def context(**fields: Any) -> Context:
    return Context(SITE, EvaluationSpec(limit=60), DATA, context_size=128, **fields)


@pytest.mark.usefixtures("no_fields")
def test_one_attribute_is_named_with_both_ways_to_go_on(lm: LanguageModel) -> None:
    reason = reason_to_skip(Ravel(attributes=ATTRIBUTES), lm, context())
    assert reason is not None
    assert reason.startswith("the model completes only 0 of 60 prompts about the field of nobel_prize_winner")
    assert "entities correctly (20 needed); score the others with " in reason
    assert (
        '--set "task_options.ravel.attributes={city: [country, continent, language], nobel_prize_winner: '
        '[country, gender]}"' in reason
    )
    assert reason.endswith('whole kinds of entities only with --set "task_options.ravel.entities=[city]"')


def test_all_failing_attributes_are_named(lm: LanguageModel, no_fields: Path) -> None:
    people_without(no_fields, "gender")
    reason = reason_to_skip(Ravel(attributes=ATTRIBUTES), lm, context())
    assert reason is not None and "field of nobel" in reason and "gender of nobel" in reason
    # One attribute of people is left, which has no other from which it could be isolated.
    assert reason.endswith('score the others with --set "task_options.ravel.entities=[city]"')
    people_without(no_fields, "country")
    only_people = Ravel(attributes={"nobel_prize_winner": ATTRIBUTES["nobel_prize_winner"]})
    nothing = reason_to_skip(only_people, lm, context())
    assert nothing is not None and "--set" not in nothing and nothing.count("completes only 0") == 3
    assert nothing.endswith("none of the 3 attributes can be used")


def test_a_kind_that_cannot_be_read_fails_and_is_named(
    lm: LanguageModel, no_fields: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abench.tasks.ravel.HUB_ATTRIBUTES", ATTRIBUTES)
    (no_fields / "ravel_nobel_prize_winner_attribute_to_prompts.json").unlink()
    task = Ravel(attributes=ATTRIBUTES)
    with pytest.raises(UserError, match=r"prompts.json is missing from .*ravel.entities=\[city\]\"$"):
        task.skip(lm, context())
    listed: list[Parts] = []
    available = task.model_copy(update={"entities": "available"})
    with torch.no_grad():
        available.prepare(lm, context(rests_on=listed.append))
    assert listed[0].used == ("city",) and "is missing from" in listed[0].left_out["nobel_prize_winner"]


@pytest.mark.usefixtures("no_fields")
def test_what_is_available_scores_as_if_it_were_selected(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abench.tasks.ravel.HUB_ATTRIBUTES", ATTRIBUTES)
    sae = rotated("abstopk", 80)

    def scored(**options: Any) -> tuple[Parts, dict[str, float], Any]:
        task, listed = Ravel(pairs=40, **options), list[Parts]()
        ctx = context(rests_on=listed.append)
        with torch.no_grad():
            scores, details = task.score(sae, task.prepare(lm, ctx), lm, ctx)
        return listed[0], dict(scores), details["attributes"]

    city, few, _ = scored(entities=("city",))
    assert city == Parts("kinds of entities", ("city",), {"nobel_prize_winner": "not selected"})
    kinds, same, details = scored(entities="available")
    assert kinds.used == ("city",) and same == few
    assert "field of nobel_prize_winner" in kinds.left_out["nobel_prize_winner"]
    mean = sum(each["cause"] for each in details["city"].values()) / 3
    assert same["cause_score"] == pytest.approx(mean)
    chosen, expected, _ = scored(attributes=FEWER)
    assert chosen.left_out == {"nobel_prize_winner field": "not selected"}
    found, scores, _ = scored(attributes="available")
    assert found.used == chosen.used and scores == expected
    assert found.what == "attributes of entities" and list(found.left_out) == ["nobel_prize_winner field"]


def test_unknown_kinds() -> None:
    with pytest.raises(UserError, match=r"kind 'river' have no attributes by default, only city, person"):
        Ravel(entities=("river",)).skip(
            None, replace(context(), data=DataSpec(source="tinyworld", dataset=None))
        )


# --- labelled data sets -------------------------------------------------------------------------------------

SIZES = {"train": 8, "test": 8}


@pytest.fixture
def two_missing(repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins of the hub's data sets without two of the repositories."""
    for name in HUB:
        if name not in {NEWS, AMAZON}:
            shutil.copytree(repositories / name, tmp_path / name)
    serve(tmp_path, monkeypatch)


@pytest.mark.usefixtures("two_missing")
def test_data_sets_that_cannot_be_read_are_all_named() -> None:
    task = SparseProbing(train_texts=8, test_texts=8)
    with pytest.raises(UserError) as raised:
        task.skip(None, context_of())  # type: ignore[arg-type]  # no model is needed to read texts
    said = str(raised.value)
    assert said.count("cannot be read") == 2 and AMAZON in said and NEWS in said
    others = [f"{BIOS}_class_set{n}" for n in (1, 2, 3)] + ["Helsinki-NLP/europarl", CODE]
    (typed,) = re.findall(
        r'score the others with --set "task_options.sparse_probing.datasets=\[(.*)]"$', said
    )
    assert set(typed.split(", ")) == set(others)
    SparseProbing(train_texts=8, test_texts=8, datasets=tuple(others)).skip(None, context_of())  # type: ignore[arg-type]


@pytest.mark.usefixtures("two_missing")
@pytest.mark.parametrize("task", [TPP(**SIZES), SCR(**SIZES)], ids=["tpp", "scr"])
def test_ablation_tasks_name_them_too(task: Task) -> None:
    with pytest.raises(
        UserError, match=rf'cannot be read.*--set "task_options.{task.name}.datasets=\[{BIOS}_'
    ):
        task.skip(None, context_of())
    assert reason_to_skip(task.model_copy(update={"datasets": "available"}), None, context_of()) is None


@pytest.mark.usefixtures("hub")
def test_too_few_texts_are_a_skip_that_names_every_data_set() -> None:
    task = TPP(datasets=(NEWS, f"{BIOS}_class_set1"), train=10**6, test=8)
    reason = reason_to_skip(task, None, context_of())
    assert reason is not None and reason.count("but ") == 2
    assert reason.endswith("none of the 2 data sets can be used")


def test_a_subset_scores_the_mean_over_its_parts(lm: LanguageModel) -> None:
    names = ("tinyworld/biographies", "tinyworld/reviews_sentiment")
    ctx = Context(SITE, EvaluationSpec(), DataSpec(source="tinyworld", dataset=None), context_size=128)
    sae, sizes = random_sae("abstopk", width=64), {"train_texts": 40, "test_texts": 20, "context": 32}

    def scored(datasets: Any) -> tuple[dict[str, float], Any, list[Parts]]:
        listed: list[Parts] = []
        task, own = SparseProbing(datasets=datasets, **sizes), replace(ctx, rests_on=listed.append)
        with torch.no_grad():
            scores, details = task.score(sae, task.prepare(lm, own), lm, own)
        return dict(scores), details["datasets"], listed

    whole, each, complete = scored("available")
    some, _, listed = scored(names)
    for name, score in some.items():
        assert score == pytest.approx(sum(each[part][name] for part in names) / 2)
    assert whole != some
    assert complete[0].left_out == {} and len(complete[0].used) == 4
    assert listed[0].used == names and set(listed[0].left_out.values()) == {"not selected"}


def test_the_keys_of_default_options_are_as_before() -> None:
    assert Ravel().model_dump(mode="json") == {
        "revisions": {},
        "attributes": None,
        "pairs": 5000,
        "entities": 500,
        "train_share": 0.7,
        "learning_rate": 0.001,
        "epochs": 2,
        "batch_size": 32,
        "generated_tokens": 6,
    }
    for task in (SparseProbing(), TPP(), SCR()):
        assert task.model_dump(mode="json")["datasets"] is None


# --- on the command line ------------------------------------------------------------------------------------


def run(abench: Abench, results: Path, *settings: str) -> Result:
    sizes = ("--variants", "topk,abstopk", "--k", "4", *SMALL, "--layer", "0", "--tasks", "sparse_probing")
    probing = [f"task_options.sparse_probing.{each}" for each in ("train_texts=24", "test_texts=12")]
    return abench("run", *sizes, *(f"--set={each}" for each in (*probing, *settings)), "--results", results)


def records(results: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(results.glob("cells/*/*/*/*.json"))]


def test_the_message_can_be_typed_and_the_table_names_the_parts(abench: Abench, tmp_path: Path) -> None:
    results = tmp_path / "results"
    asked = f"task_options.sparse_probing.datasets=[tinyworld/reviews, {NEWS}, tinyworld/biographies]"
    refused = run(abench, results, asked)
    assert refused.code == 3 and "training" not in refused.err
    typed = set(re.findall(r'--set "([^"]*)"', refused.err))
    assert typed == {"task_options.sparse_probing.datasets=[tinyworld/reviews, tinyworld/biographies]"}
    scored = run(abench, results, *typed)
    assert scored.code == 0, scored.err
    done = [record for record in records(results) if record["status"] == "done"]
    assert {tuple(record["parts"][0]["used"]) for record in done} == {
        ("tinyworld/reviews", "tinyworld/biographies")
    }
    note = "sparse_probing rests on 2 of 4 data sets: tinyworld/reviews, tinyworld/biographies ("
    assert note in " ".join(scored.out.split())
    key = done[0]["key"][:12]
    assert "rests on 2 of 4 data sets: tinyworld/reviews" in abench("show", key, "--results", results).out
    again = run(abench, results, *typed)
    assert "0 cells computed, 3 from the results folder" in again.out and note in " ".join(again.out.split())
    everything = run(abench, results, "task_options.sparse_probing.datasets=available")
    assert "3 cells computed" in everything.out and "rests on" not in everything.out


PER_SAE = '''
from typing import Any, ClassVar

from abench import SAE, Context, LanguageModel, Metric, Parts, Scores, Task


class PerSae(Task):
    """Leaves a part out for one SAE."""

    name: ClassVar[str] = "per_sae"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("m", None, headline=True),)

    def score(self, sae: SAE, prepared: Any, lm: LanguageModel, ctx: Context) -> Scores:
        ctx.rests_on(Parts("data sets", ("a",), {"b": "this SAE fails on it"}))
        return {"m": 1.0}
'''


def test_no_part_is_left_out_for_one_sae(abench: Abench, tmp_path: Path) -> None:
    (tmp_path / "per_sae.py").write_text(PER_SAE)
    sizes = ("--variants", "topk", "--k", "4", *SMALL, "--tokens", "2048", "--tasks", "per_sae")
    result = abench("run", *sizes, "--tasks-dir", tmp_path, "--results", tmp_path / "results")
    assert result.code == 3
    assert "ctx.rests_on was called in score; call it in prepare, for all SAEs alike" in result.err
