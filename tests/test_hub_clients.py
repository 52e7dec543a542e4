"""The stand-in hub under the real clients: data sets open, faults are survived or told in a sentence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub.client import ask, client_environment
from hub.contents import DATASETS, make_hub
from hub.corpora import EMPTY_DOCUMENT, PILE_DOCUMENTS, PILE_FILES, pile_text
from hub.server import MEMBER_TOKEN, STRANGER_TOKEN, Fault, Hub

COLUMNS = {
    ("LabHC/bias_in_bios", None): {"hard_text", "profession", "gender"},
    ("canrager/amazon_reviews_mcauley_1and5", None): {"text", "category", "rating"},
    ("fancyzhx/ag_news", None): {"text", "label"},
    ("Helsinki-NLP/europarl", "de-en"): {"translation"},
    ("codeparrot/github-code", None): {"code", "repo_name", "path", "language", "license", "size"},
    ("cais/wmdp", "wmdp-bio"): {"question", "choices", "answer"},
    ("cais/mmlu", "human_aging"): {"question", "choices", "answer", "subject"},
    ("Salesforce/wikitext", "wikitext-2-raw-v1"): {"text"},
    ("monology/pile-uncopyrighted", None): {"text", "meta"},
    ("Skylion007/openwebtext", None): {"text"},
}
LABELLED = [
    "LabHC/bias_in_bios_class_set1",
    "LabHC/bias_in_bios_class_set3",
    "canrager/amazon_reviews_mcauley_1and5",
    "canrager/amazon_reviews_mcauley_1and5_sentiment",
    "codeparrot/github-code",
    "fancyzhx/ag_news",
    "Helsinki-NLP/europarl",
]
"""What sae-bench's sparse probing reads, under its names."""

OPEN = """
from datasets import load_dataset
script = {{"trust_remote_code": True}} if {name!r} == "codeparrot/github-code" else {{}}
split = "test" if {name!r}.startswith("cais") else "train"
rows = load_dataset({name!r}, {config!r}, split=split, streaming={streaming}, **script)
answer = sorted(next(iter(rows)))
"""
BY_SAE_BENCH = """
from sae_bench.sae_bench_utils.dataset_utils import get_multi_label_train_test_data
from abench.tasks._shared.labelled_hub import texts_by_class
train, test = get_multi_label_train_test_data({name!r}, 16, 8, 3)
ours = texts_by_class({name!r}, 16, 8, seed=3)
answer = [
    {{c: [len(texts[c]), texts[c] == list(own[c])] for c in own}} for texts, own in zip((train, test), ours)
]
"""
PILE = """
from itertools import islice
from abench.config import DataSpec
from abench.data.texts import texts
spec = DataSpec(held_out_documents={held_out}, revision={revision!r})
answer = list(islice(texts(spec, {part!r}, start={start}), {number}))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with make_hub(tmp_path_factory.mktemp("hub"), models=["pythia-70m"], datasets=DATASETS) as hub:
        yield hub


@pytest.fixture(scope="module")
def opened(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, dict[str, Any]]:
    """What reading each data set gave, from one process."""
    requests = {
        (*asked, streaming): OPEN.format(name=asked[0], config=asked[1], streaming=streaming)
        for asked in COLUMNS
        for streaming in (True, False)
    }
    requests |= {name: BY_SAE_BENCH.format(name=name) for name in LABELLED}
    answers = ask(client_environment(hub, tmp_path_factory.mktemp("home")), *requests.values())
    return dict(zip(requests, answers, strict=True))


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "downloaded"])
@pytest.mark.parametrize("asked", COLUMNS, ids=[name for name, _ in COLUMNS])
def test_a_data_set_has_its_columns(
    opened: dict[Any, dict[str, Any]], asked: tuple[str, str | None], streaming: bool
) -> None:
    answer = opened[(*asked, streaming)]
    assert "error" not in answer, answer
    assert set(answer["answer"]) == COLUMNS[asked]


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_texts_are_those_that_sae_bench_takes(opened: dict[Any, dict[str, Any]], name: str) -> None:
    from sae_bench.sae_bench_utils.dataset_info import chosen_classes_per_dataset

    assert "error" not in opened[name], opened[name]
    classes = chosen_classes_per_dataset[name]
    # Of each class half of the 16 and 8 texts of a binary task, and the same ones.
    assert opened[name]["answer"] == [{c: [texts, True] for c in classes} for texts in (8, 4)]


def pile(*asked: tuple[int, str, int, int], revision: str | None = None) -> list[str]:
    names = ("held_out", "part", "start", "number")
    return [PILE.format(**dict(zip(names, each, strict=True)), revision=revision) for each in asked]


def test_the_pile_streams_from_any_document(hub: Hub, tmp_path: Path) -> None:
    everything = PILE_FILES * PILE_DOCUMENTS
    positions = [
        (5, "held_out", 0, 99),
        (5, "held_out", 3, 99),
        (5, "train", 0, 4),
        (5, "train", PILE_DOCUMENTS - 7, 4),
        (5, "train", everything - 8, 99),
        (5, "train", everything, 99),
    ]
    answers = ask(client_environment(hub, tmp_path), *pile(*positions))
    for (held_out, part, start, number), answer in zip(positions, answers, strict=True):
        first, end = (start, held_out) if part == "held_out" else (held_out + start, everything)
        expected = [pile_text(n) for n in range(first, min(first + number, end))]
        assert answer.get("answer") == expected, answer
    assert pile_text(EMPTY_DOCUMENT) == ""


def test_an_older_revision_and_one_that_does_not_exist(hub: Hub, tmp_path: Path) -> None:
    rest = (5, "train", PILE_DOCUMENTS - 10, 99)
    older, absent = ask(
        client_environment(hub, tmp_path), *pile(rest, revision="v1"), *pile(rest, revision="v9")
    )
    assert older["answer"] == [pile_text(n) for n in range(PILE_DOCUMENTS - 5, PILE_DOCUMENTS)]
    assert "UserError: the data set monology/pile-uncopyrighted cannot be read" in absent["error"]


def test_a_stream_survives_a_dropped_connection_and_tells_of_a_refusal(hub: Hub, tmp_path: Path) -> None:
    dropped, refused = Fault(r"/train/01\.jsonl"), Fault(r"/train/02\.jsonl", times=9, status=403)
    hub.faults[:] = [dropped, refused]
    second, third = (5, "train", PILE_DOCUMENTS, 3), (5, "train", 2 * PILE_DOCUMENTS, 3)
    survived, told = ask(client_environment(hub, tmp_path), *pile(second, third))
    hub.faults.clear()
    assert dropped.times == 0
    assert survived["answer"] == [pile_text(PILE_DOCUMENTS + 5 + n) for n in range(3)]
    assert told["error"].startswith("UserError: reading monology/pile-uncopyrighted failed: 403")
    assert "\n" not in told["error"]


def test_a_gated_data_set_opens_for_those_who_were_let_in(hub: Hub, tmp_path: Path) -> None:
    code = """
from datasets import load_dataset
answer = len(load_dataset("cais/wmdp-bio-forget-corpus", split="train", token={token!r}))
"""
    requests = [code.format(token=token) for token in (False, STRANGER_TOKEN, MEMBER_TOKEN)]
    anonymous, stranger, member = ask(client_environment(hub, tmp_path), *requests)
    assert "gated" in anonymous["error"]
    assert "gated" in stranger["error"]
    assert member["answer"] > 0


def test_the_files_of_ravel(hub: Hub, tmp_path: Path) -> None:
    code = """
import json
from pathlib import Path
from huggingface_hub import snapshot_download
folder = Path(snapshot_download("adamkarvonen/ravel_prompts", repo_type="dataset", allow_patterns="*.json"))
answer = {file.stem: json.loads(file.read_text()) for file in folder.iterdir()}
"""
    (answer,) = ask(client_environment(hub, tmp_path), code)
    files = answer["answer"]
    for kind in ("city", "nobel_prize_winner"):
        entities = files[f"ravel_{kind}_entity_attributes"]
        prompts = files[f"ravel_{kind}_attribute_to_prompts"]
        assert set(entities) == set(files[f"ravel_{kind}_entity_to_split"])
        assert {p for each in prompts.values() for p in each} == set(files[f"ravel_{kind}_prompt_to_split"])
        assert all(prompt.count("%s") == 1 for each in prompts.values() for prompt in each)
        assert all(set(attributes) == set(prompts) for attributes in entities.values())
