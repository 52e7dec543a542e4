"""Stand-ins for the data sets of questions: multiple choice, and RAVEL's prompts about entities."""

import json
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

from hub.files import write_card, write_parquet
from hub.repository import Commit, Repository
from hub.texts import text_about, topic_words

ASKED_SUBJECTS = (
    "high_school_us_history",
    "college_computer_science",
    "high_school_geography",
    "human_aging",
    "college_biology",
)
"""The subjects of MMLU that sae-bench's unlearning asks about, and one of the forget topic's field."""
QUESTIONS, FEW_QUESTIONS, VALIDATION_QUESTIONS = 24, 3, 4
"""Questions of a subject that is asked about, of MMLU's others, and of each of MMLU's to validate on."""


def mmlu_subjects() -> tuple[str, ...]:
    """All subjects of MMLU, as lm-eval's stock group names them."""
    import lm_eval

    stock = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default"
    text = "".join(file.read_text(encoding="utf-8") for file in sorted(stock.glob("mmlu_*.yaml")))
    return tuple(re.findall(r"^.?dataset_name.?: \W?(\w+)", text, re.MULTILINE))


def wmdp(folder: Path) -> Repository:
    """Questions on hazardous knowledge, a configuration a field."""
    configs = {}
    for name in ("wmdp-bio", "wmdp-chem", "wmdp-cyber"):
        write_parquet(folder / name / "test-00000-of-00001.parquet", _questions(name, "test", QUESTIONS))
        configs[name] = {"test": f"{name}/test-*"}
    write_card(folder, configs)
    return Repository("datasets", "cais/wmdp", Commit(folder))


def mmlu(folder: Path) -> Repository:
    """Questions of 57 subjects, a configuration a subject."""
    from datasets import ClassLabel, Features, Sequence, Value

    features = Features(
        {
            "question": Value("string"),
            "subject": Value("string"),
            "choices": Sequence(Value("string")),
            "answer": ClassLabel(names=["A", "B", "C", "D"]),
        }
    )
    configs = {}
    for subject in mmlu_subjects():
        tested = QUESTIONS if subject in ASKED_SUBJECTS else FEW_QUESTIONS
        for split, number in {"test": tested, "validation": VALIDATION_QUESTIONS, "dev": 5}.items():
            rows = [row | {"subject": subject} for row in _questions(subject, split, number)]
            write_parquet(folder / subject / f"{split}-00000-of-00001.parquet", rows, features)
        configs[subject] = {split: f"{subject}/{split}-*" for split in ("test", "validation", "dev")}
    write_card(folder, configs)
    return Repository("datasets", "cais/mmlu", Commit(folder))


def _questions(subject: str, split: str, number: int) -> list[dict[str, Any]]:
    rng = random.Random(f"questions {subject} {split}")
    return [
        {
            "answer": rng.randrange(4),
            "question": f"{text_about(rng, subject, words=12)[:-1]}?",
            "choices": rng.sample(topic_words(subject), 4),
        }
        for _ in range(number)
    ]


RAVEL = {
    "city": {
        "Country": ("France", "Japan", "Peru"),
        "Continent": ("Europe", "Asia", "South America"),
        "Language": ("French", "Japanese", "Spanish"),
    },
    "nobel_prize_winner": {
        "Country of Birth": ("Germany", "India", "Chile"),
        "Field": ("Physics", "Literature", "Chemistry"),
        "Gender": ("male", "female"),
    },
}
"""Kind of entity -> attribute -> its values."""


def ravel_prompts(folder: Path) -> Repository:
    """Four JSON files a kind of entity, at the root."""
    for kind, attributes in RAVEL.items():
        rng = random.Random(f"ravel {kind}")
        names = sorted({word.capitalize() for n in range(4) for word in topic_words(f"{kind} {n}")})
        prompts = {
            name: [f"Paris comes first. %s has the {name.lower()}", f"The {name.lower()} of %s is called"]
            for name in attributes
        }
        files = {
            "entity_attributes": {e: {a: rng.choice(v) for a, v in attributes.items()} for e in names},
            "attribute_to_prompts": prompts,
            "prompt_to_split": {p: rng.choice(("train", "val")) for ps in prompts.values() for p in ps},
            "entity_to_split": {entity: rng.choice(("train", "val")) for entity in names},
        }
        _write_ravel(folder, kind, files)
    return Repository("datasets", "adamkarvonen/ravel_prompts", Commit(folder))


def ravel_prompts_of(folder: Path, complete: Callable[[list[str]], list[str]]) -> Commit:
    """RAVEL's files in which the right answers are what `complete` writes after prompts, all of one length.

    All attributes are asked for in the same words, and entities differ in their last character, with which
    prompts end: the first token of an answer is settled by what stands at that character and nothing else.
    Entities that are answered with a part of a character only are left without one.
    """
    entities = [f"X{letter}" for letter in ascii_letters + digits]
    template = "The answer is %s"
    written = complete([template % each for each in entities])
    answers = ["" if "\N{REPLACEMENT CHARACTER}" in each else each.strip(' "') for each in written]
    for kind, attributes in RAVEL.items():
        known = {e: dict.fromkeys(attributes, answer) for e, answer in zip(entities, answers, strict=True)}
        prompts = {name: [template] for name in attributes}
        _write_ravel(folder, kind, {"entity_attributes": known, "attribute_to_prompts": prompts})
    return Commit(folder)


def _write_ravel(folder: Path, kind: str, files: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for what, content in files.items():
        (folder / f"ravel_{kind}_{what}.json").write_text(json.dumps(content), encoding="utf-8")
