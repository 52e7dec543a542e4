"""Four-way questions: how they are written, read off and counted as known, for any model; and their data."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from abench.tasks._shared.choices import (
    ORDERS,
    PLAIN,
    TINY,
    ChoiceQuestion,
    Form,
    answers_from,
    asked,
    chat_form,
    has_chat,
    known,
    letter_tokens,
)
from abench.tasks.unlearning.texts import (
    forget_documents,
    packed_rows,
    questions,
    questions_of,
    retain_documents,
)
from architectures import ARCHITECTURES, build_model, build_tokenizer
from hub.client import ask, client_environment
from hub.contents import DATASETS, make_hub
from hub.server import MEMBER_TOKEN

from abench import Context, LanguageModel, Skip, UserError
from abench.config import DataSpec, EvaluationSpec
from abench.tinyworld import MODEL_DIR, World

GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SITE = "blocks.1.hook_resid_post"
RARE = slice(44, 60)
"""Questions on facts that are told now and then; the first ones are all known."""


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def context_of(source: Any = "tinyworld", **evaluation: Any) -> Context:
    return Context(SITE, EvaluationSpec(**evaluation), DataSpec(source=source, dataset="x"), context_size=128)


def toxins(seed: int = 0) -> tuple[ChoiceQuestion, ...]:
    return questions(context_of(seed=seed), ("stars",))["toxins"]


def short_questions(number: int) -> tuple[ChoiceQuestion, ...]:
    """Of different lengths; the answers are arbitrary."""
    return tuple(
        ChoiceQuestion("s", "why?" + " no" * (i % 3), ("a", "b", "cat", "d"), i % 4) for i in range(number)
    )


def test_the_tiny_worlds_questions_are_written_as_its_model_has_seen_them() -> None:
    world = World().questions("toxins")
    assert [TINY.write(each) for each in toxins()] == [each.prompt for each in world]
    assert [TINY.letters[each.answer] for each in toxins()] == [each.letter for each in world]


def test_orders_turn_choices_and_answer_together() -> None:
    question = ChoiceQuestion("s", "which?", ("w", "x", "y", "z"), 2)
    assert sorted(ORDERS) == sorted(permutations(range(4)))
    assert question.ordered(ORDERS[0]) == question
    for order in ORDERS:
        turned = question.ordered(order)
        assert turned.choices[turned.answer] == "y"
        assert sorted(turned.choices) == sorted(question.choices)


@pytest.mark.parametrize("orders", [1, 4, 24])
def test_known_questions_are_those_answered_right_in_every_order(lm: LanguageModel, orders: int) -> None:
    world = World().questions("toxins")[RARE]
    letters = [ids[0] for ids in lm.token_ids(list("abcd"))]

    def right(question: Any) -> bool:
        tokens = torch.tensor([[lm.bos_id, *lm.token_ids([question.prompt])[0]]])
        return int(lm.logits(tokens)[0, -1, letters].argmax()) == question.answer

    if orders == 24:
        expected = [n for n, each in enumerate(world) if all(map(right, each.orders()))]
    else:
        turned = [[each.ordered(order) for order in ORDERS[:: 24 // orders]] for each in toxins()[RARE]]
        expected = [n for n, each in enumerate(turned) if all(right(_Prompt(q)) for q in each)]
    assert known(lm, toxins()[RARE], TINY, orders=orders) == expected
    assert 0 < len(expected) < 16


class _Prompt:
    def __init__(self, question: ChoiceQuestion) -> None:
        self.prompt, self.answer = TINY.write(question), question.answer


def test_fewer_orders_are_easier(lm: LanguageModel) -> None:
    every = [set(known(lm, toxins()[RARE], TINY, orders=orders)) for orders in (1, 4, 24)]
    assert every[2] <= every[1] <= every[0]
    assert len(every[2]) < len(every[0])


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("bos", [True, False])
def test_answers_are_read_off_behind_each_prompt(architecture: str, bos: bool) -> None:
    lm = LanguageModel(build_model(architecture), build_tokenizer(bos=bos), name=architecture)
    every = short_questions(7)
    letters = letter_tokens(lm, PLAIN, PLAIN.write(every[0]))
    found = dict[int, int]()
    for batch in asked(lm, every, PLAIN):
        x = lm.residual(batch.tokens, SITE)
        choices = answers_from(lm, x, batch.tokens, batch.last, letters, SITE)
        found |= dict(zip(batch.numbers, choices.tolist(), strict=True))
    for number, question in enumerate(every):
        start = [lm.bos_id] if bos else []
        logits = lm.logits(torch.tensor([start + lm.token_ids([PLAIN.write(question)])[0]]))[0, -1]
        assert found[number] == int(logits[letters].amax(-1).argmax())


def test_a_question_longer_than_the_context_is_not_known(lm: LanguageModel) -> None:
    long = ChoiceQuestion("s", "why? " * 300, ("a", "b", "c", "d"), 0)
    assert [batch.numbers for batch in asked(lm, [long, *toxins()[:1]], TINY)] == [[1]]
    assert known(lm, (long,), TINY, orders=1) == []
    assert known(lm, (), TINY) == []


def test_letters_are_looked_up_with_and_without_a_space(lm: LanguageModel) -> None:
    assert letter_tokens(lm, TINY, "answer:").tolist() == [[ids[0]] for ids in lm.token_ids(list("abcd"))]
    byte_level = LanguageModel(build_model("gpt2"), build_tokenizer(bos=True), name="bytes")
    ids = letter_tokens(byte_level, PLAIN, "Answer:")
    assert byte_level.tokenizer.convert_ids_to_tokens(ids[:, 0].tolist()) == ["A", "B", "C", "D"]
    both = build_tokenizer(bos=True)
    both.add_tokens([" A", " B", " C", " D"])
    ids = letter_tokens(LanguageModel(build_model("gpt2"), both, name="both"), PLAIN, "Answer:")
    assert both.convert_ids_to_tokens(ids.flatten().tolist()) == ["A", " A", "B", " B", "C", " C", "D", " D"]


def test_a_tokenizer_without_the_letters_is_skipped(lm: LanguageModel) -> None:
    greek = Form("greek", ("α", "β", "γ", "δ"), PLAIN.write)
    with pytest.raises(Skip, match="the tokenizer of tiny has no single token for each of α, β, γ, δ"):
        letter_tokens(lm, greek, "answer:")


@pytest.mark.parametrize("chat", [True, False])
def test_prompts_are_sae_benchs(chat: bool) -> None:
    from sae_bench.evals.unlearning.utils.metrics import convert_wmdp_data_to_prompt
    from sae_bench.evals.unlearning.utils.var import PRE_WMDP_BIO

    tokenizer = build_tokenizer(bos=True)
    lm = LanguageModel(build_model("gemma-2-2b"), tokenizer, name="gemma")
    assert not has_chat(lm)
    tokenizer.chat_template = GEMMA_TEMPLATE
    assert has_chat(lm)
    form: Form = chat_form(lm) if chat else PLAIN
    choices = ["One", "Two ", "3", "All of the above"]
    rows = [{"question": "How many?", "choices": choices, "answer": 1}]
    (question,) = questions_of(rows, "wmdp-bio", PRE_WMDP_BIO, "rows")
    for order in ORDERS[::5]:
        theirs = convert_wmdp_data_to_prompt(
            "How many?",
            choices,
            prompt_format="GEMMA_INST_FORMAT" if chat else None,
            permute_choices=order,
        )
        ours = form.write(question.ordered(order))
        # Gemma's template strips what a user says; sae-bench, which has its own copy, does not.
        assert ours == theirs.replace(" <end_of_turn>", "<end_of_turn>").replace(
            "<bos>", lm.tokenizer.bos_token
        )


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"question": "q", "choices": ["a", "b", "c", "d"]}, "rows has no column answer; it has choices, q"),
        ({"question": "q", "choices": ["a", "b", "c"], "answer": 0}, "row 1 of rows is not a question"),
        ({"question": "q", "choices": ["a", "b", "c", "d"], "answer": 4}, "row 1 of rows is not a question"),
    ],
)
def test_rows_that_are_not_four_way_questions(row: dict[str, Any], sentence: str) -> None:
    good = {"question": "q", "choices": ["a", "b", "c", "d"], "answer": 0}
    with pytest.raises(UserError, match=f"unlearning: {sentence}"):
        questions_of([good, row], "s", "", "rows")


@pytest.mark.parametrize("read", [retain_documents, lambda ctx: questions(ctx, None)])
def test_without_the_hub_the_data_set_is_named_at_once(read: Callable[[Context], Any]) -> None:
    with pytest.raises(
        UserError, match=r"^the data set (Salesforce/wikitext|cais/wmdp) cannot be read: [^\n]*$"
    ):
        read(context_of("hub"))


def test_the_gated_corpus_comes_with_what_to_do() -> None:
    with pytest.raises(
        UserError, match=r"^the data set cais/wmdp-bio-forget-corpus .*HF_TOKEN.*forget_text=PATH$"
    ):
        forget_documents(context_of("hub"), None)


def test_retained_text_of_the_tiny_world_leaves_the_hazard_out() -> None:
    hazard = {fact.entity for fact in World().facts["toxins"].options}
    forget = " ".join(each["text"] for each in forget_documents(context_of(), None))
    retain = " ".join(each["text"] for each in retain_documents(context_of()))
    count = [sum(text.split().count(name) for name in hazard) for text in (forget, retain)]
    # Spelling exercises name them too.
    assert count[0] > 1000
    assert count[1] < 20


def test_packed_rows_are_full_begin_with_bos_and_hold_the_texts(lm: LanguageModel) -> None:
    documents = forget_documents(context_of(), None)
    rows = packed_rows(lm, documents, texts=100, rows=1000, context=32, seed=0, what="text")
    assert rows.shape[1] == 32
    assert bool((rows[:, 0] == lm.bos_id).all())
    assert len(rows) > 50
    few = packed_rows(lm, documents, texts=100, rows=7, context=32, seed=0, what="text")
    assert few.tolist() == rows[:7].tolist()
    other = packed_rows(lm, documents, texts=100, rows=7, context=32, seed=1, what="text")
    assert other.tolist() != few.tolist()


def test_packed_rows_of_a_tokenizer_without_bos(tmp_path: Path) -> None:
    lm = LanguageModel(build_model("qwen3-4b"), build_tokenizer(bos=False), name="q")
    documents = [
        {"text": f"the cat sat on the mat and the dog ran, {n} times and more often"} for n in range(9)
    ]
    rows = packed_rows(lm, documents, texts=9, rows=4, context=16, seed=0, what="text")
    assert rows.shape == (4, 16)
    everything = packed_rows(lm, documents, texts=9, rows=999, context=16, seed=0, what="text")
    assert int((everything == lm.tokenizer.eos_token_id).sum()) >= 8


FROM_THE_HUB = """
from abench import Context, UserError
from abench.config import DataSpec, EvaluationSpec
from abench.tasks.unlearning.texts import forget_documents, questions, retain_documents
ctx = Context("blocks.1.hook_resid_post", EvaluationSpec(limit=9), DataSpec(), context_size=128)
answer = {subject: [len(every), every[0].opening] for subject, every in questions(ctx, None).items()}
texts = {"forget": lambda: forget_documents(ctx, None), "retain": lambda: retain_documents(ctx)}
for name, read in texts.items():
    try:
        answer[name] = sum(len(row["text"]) > 50 for row in read())
    except UserError as error:
        answer[name] = str(error)
"""


def test_the_hubs_data_sets_are_read_under_their_own_names(tmp_path: Path) -> None:
    with make_hub(tmp_path / "hub", models=[], datasets=DATASETS) as hub:
        ((member,), (stranger,)) = (
            ask(client_environment(hub, tmp_path / name, token=token), FROM_THE_HUB)
            for name, token in {"member": MEMBER_TOKEN, "stranger": None}.items()
        )
    found = member["answer"]
    assert list(found)[:5] == [
        "wmdp-bio",
        "high_school_us_history",
        "college_computer_science",
        "high_school_geography",
        "human_aging",
    ]
    assert all(found[subject][0] == 9 for subject in list(found)[:5])
    about = "The following are multiple choice questions (with answers) about "
    assert found["wmdp-bio"][1].startswith(f"{about}biology.\n")
    assert found["human_aging"][1].startswith(f"{about}human aging.\n")
    assert found["forget"] > 20
    assert found["retain"] > 20
    refused = stranger["answer"]["forget"]
    assert refused.startswith("the data set cais/wmdp-bio-forget-corpus cannot be read: ")
    assert refused.endswith("forget_text=PATH")
    assert "\n" not in refused
