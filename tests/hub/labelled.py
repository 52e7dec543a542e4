"""Stand-ins for the data sets with labelled texts: real ids, files and columns, few rows."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.files import write_card, write_parquet
from hub.repository import Commit, Repository
from hub.texts import text_about, topic_words

TRAIN_ROWS, TEST_ROWS = 24, 12
"""Rows of each class, or of each pair of attributes."""
PROFESSIONS = 28
CATEGORIES = 34
LANGUAGES = {"en": "en-fr", "fr": "fr-it", "de": "de-en", "es": "es-fr", "nl": "nl-pt"}
"""Language -> the pair of languages it is read from."""
CODE = {"C": "c", "Python": "py", "HTML": "html", "Java": "java", "PHP": "php", "GO": "go"}
"""Language -> ending of its files; the last one is no class of any task."""


def bias_in_bios(folder: Path) -> Repository:
    """Biographies by profession (28) and gender (2)."""
    for split, rows in {"train": TRAIN_ROWS, "test": TEST_ROWS, "dev": 2}.items():
        rng = random.Random(f"bios {split}")
        table = [
            {
                "hard_text": text_about(rng, f"profession {profession}", f"gender {gender}"),
                "profession": profession,
                "gender": gender,
            }
            for profession in range(PROFESSIONS)
            for gender in (0, 1)
            for _ in range(rows)
        ]
        rng.shuffle(table)
        write_parquet(folder / "data" / f"{split}-00000-of-00001-0ab65b32c47407e8.parquet", table)
    splits = {split: f"data/{split}-*" for split in ("train", "test", "dev")}
    write_card(folder, {"default": splits})
    return Repository("datasets", "LabHC/bias_in_bios", Commit(folder))


def amazon_reviews(folder: Path) -> Repository:
    """Reviews by category and rating; the last category has too few bad ones to be balanced."""
    for split, rows in {"train": TRAIN_ROWS, "test": TEST_ROWS}.items():
        rng = random.Random(f"reviews {split}")
        table = [
            {
                "text": text_about(rng, f"category {category}", f"rating {rating}"),
                "category": category,
                "rating": rating,
            }
            for category in range(CATEGORIES)
            for rating in (1.0, 5.0)
            for _ in range(2 if (category, rating) == (CATEGORIES - 1, 1.0) else rows)
        ]
        rng.shuffle(table)
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", table)
    write_card(folder, {"default": {split: f"data/{split}-*" for split in ("train", "test")}})
    return Repository("datasets", "canrager/amazon_reviews_mcauley_1and5", Commit(folder))


def ag_news(folder: Path) -> Repository:
    """News of four kinds."""
    from datasets import ClassLabel, Features, Value

    names = ["World", "Sports", "Business", "Sci/Tech"]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    for split, rows in {"train": TRAIN_ROWS * 2, "test": TEST_ROWS * 2}.items():
        rng = random.Random(f"news {split}")
        table = [
            {"text": text_about(rng, names[label]), "label": label} for label in range(4) for _ in range(rows)
        ]
        rng.shuffle(table)
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", table, features)
    write_card(folder, {"default": {split: f"data/{split}-*" for split in ("train", "test")}})
    return Repository("datasets", "fancyzhx/ag_news", Commit(folder))


def europarl(folder: Path) -> Repository:
    """Sentences in two languages each; a configuration a pair of languages."""
    from datasets import Features, Translation

    for pair in LANGUAGES.values():
        languages = pair.split("-")
        rng = random.Random(f"parliament {pair}")
        table = [
            {"translation": {language: text_about(rng, f"language {language}") for language in languages}}
            for _ in range(2 * (TRAIN_ROWS + TEST_ROWS))
        ]
        features = Features({"translation": Translation(languages=languages)})
        write_parquet(folder / pair / "train-00000-of-00001.parquet", table, features)
    write_card(folder, {pair: {"train": f"{pair}/train-*"} for pair in LANGUAGES.values()})
    return Repository("datasets", "Helsinki-NLP/europarl", Commit(folder))


def github_code(folder: Path) -> Repository:
    """Source files in two parquet files; as on the hub, a script reads them and tells the language."""
    rng = random.Random("code")
    table = [_source_file(rng, language, number) for language in CODE for number in range(90)]
    rng.shuffle(table)
    half = len(table) // 2
    for number, rows in enumerate((table[:half], table[half:])):
        write_parquet(folder / "data" / f"train-{number:05d}-of-01126.parquet", rows)
    (folder / "github-code.py").write_text(_SCRIPT.replace("ENDINGS", repr(CODE)), encoding="utf-8")
    (folder / "README.md").write_text("# Stand-in\n", encoding="utf-8")
    return Repository("datasets", "codeparrot/github-code", Commit(folder))


def _source_file(rng: random.Random, language: str, number: int) -> Mapping[str, Any]:
    words = topic_words(f"code {language}")
    lines = [f"{rng.choice(words)} {rng.choice(words)} = {rng.randint(0, 99)};" for _ in range(60)]
    # Every tenth file is too short to be used.
    content = "\n".join(["/* licence */", *lines[: 3 if number % 10 == 0 else 60]])
    return {
        "content": content,
        "repo_name": f"owner/{language}",
        "path": f"src/file{number}.{CODE[language]}",
        "license": "mit",
        "size": len(content),
    }


_SCRIPT = """
import datasets
import pyarrow.parquet as pq

_LANGUAGES = {f".{ending}": language for language, ending in ENDINGS.items()}


class GithubCodeConfig(datasets.BuilderConfig):
    def __init__(self, *args, languages=("all",), licenses=("all",), **kwargs):
        super().__init__(*args, **kwargs)
        self.languages, self.licenses = set(languages), set(licenses)


class GithubCode(datasets.GeneratorBasedBuilder):
    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = GithubCodeConfig
    BUILDER_CONFIGS = [GithubCodeConfig(name="all-all")]

    def _info(self):
        names = ("code", "repo_name", "path", "language", "license")
        columns = {name: datasets.Value("string") for name in names}
        return datasets.DatasetInfo(features=datasets.Features({**columns, "size": datasets.Value("int32")}))

    def _split_generators(self, downloads):
        files = downloads.download([f"data/train-{number:05d}-of-01126.parquet" for number in range(2)])
        return [datasets.SplitGenerator(name=datasets.Split.TRAIN, gen_kwargs={"files": files})]

    def _generate_examples(self, files):
        for file in files:
            with open(file, "rb") as stream:
                for row in pq.read_table(stream).to_pylist():
                    language = _LANGUAGES["." + row["path"].rpartition(".")[2]]
                    if "all" in self.config.languages or language in self.config.languages:
                        code = row.pop("content")
                        yield row["path"], {**row, "code": code, "language": language}
"""
