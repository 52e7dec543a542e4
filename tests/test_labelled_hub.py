"""Labelled texts of the hub against sae-bench's functions, and what bad data are answered with.

The data sets are the stand-ins of tests/hub, opened by the real `datasets` from local folders laid out like
their repositories; sae-bench's functions read the same folders.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytest
from abench.tasks._shared.labelled import labelled, probing_data_sets, quadrants
from hub import labelled as stand_ins
from hub.files import write_card, write_parquet

from abench import Context, Skip, UserError
from abench.config import DataSpec, EvaluationSpec
from abench.data import loading

BIOS, NEWS, AMAZON = "LabHC/bias_in_bios", "fancyzhx/ag_news", "canrager/amazon_reviews_mcauley_1and5"
EUROPARL, CODE = "Helsinki-NLP/europarl", "codeparrot/github-code"
HUB = {
    BIOS: stand_ins.bias_in_bios,
    AMAZON: stand_ins.amazon_reviews,
    NEWS: stand_ins.ag_news,
    EUROPARL: stand_ins.europarl,
    CODE: stand_ins.github_code,
}
Rows = Sequence[Mapping[str, Any]]


def context_of(*, seed: int = 0, limit: int | None = None) -> Context:
    spec = EvaluationSpec(seed=seed, limit=limit)
    return Context("blocks.2.hook_resid_post", spec, DataSpec(source="hub"), 128)


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repositories")
    for name, write in HUB.items():
        write(root / name)
    (root / CODE / "github-code.py").unlink()  # the files must do; sae-bench gets its columns from a map
    return root


@pytest.fixture
def hub(repositories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(repositories, monkeypatch)


def serve(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a folder stand for the hub, for abench and for sae-bench; only the place is another.

    With a cache of its own: offline, `datasets` answers from the user's by the folder's name alone.
    """
    from sae_bench.evals.scr_and_tpp import dataset_creation
    from sae_bench.sae_bench_utils import dataset_utils

    load = partial(datasets.load_dataset, cache_dir=str(root / "cache"))

    def load_local(path: str, name: str | None = None, **options: Any) -> Any:
        if path == "parquet":
            files = options.pop("data_files").items()
            local = {split: file.replace("hf://datasets/", f"{root}/") for split, file in files}
            return load(path, data_files=local, **options)
        scripted = options.pop("trust_remote_code", False)
        options.pop("languages", None)
        found = load(str(root / path), name, **options)
        return found.map(_as_the_script_does) if scripted else found

    for module in (datasets, dataset_utils, dataset_creation):
        monkeypatch.setattr(module, "load_dataset", load_local)
    monkeypatch.setattr(loading, "offline_reason", lambda: None)
    # A folder has no commits.
    monkeypatch.setattr(loading, "data_set_commit", lambda _repository, _revision: None)


def _as_the_script_does(row: dict[str, Any]) -> dict[str, Any]:
    languages = {ending: language for language, ending in stand_ins.CODE.items()}
    return {"code": row["content"], "language": languages[row["path"].rpartition(".")[2]]}


@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("number", range(8))
@pytest.mark.usefixtures("hub")
def test_texts_are_those_sae_bench_takes(number: int, seed: int) -> None:
    from sae_bench.sae_bench_utils import dataset_info, dataset_utils

    ctx = context_of(seed=seed)
    name = probing_data_sets(ctx)[number]
    theirs = dataset_utils.get_multi_label_train_test_data(name, 40, 20, seed)
    classes = dataset_info.chosen_classes_per_dataset[name]
    ours = labelled(name, ctx, train=40, test=20)
    for half, expected in zip((ours.train, ours.test), theirs, strict=True):
        chosen = dataset_utils.filter_dataset(expected, classes)
        assert {c: list(texts) for c, texts in half.items()} == chosen


def test_the_data_sets_are_sae_benchs() -> None:
    from sae_bench.evals.sparse_probing.eval_config import SparseProbingEvalConfig

    assert list(probing_data_sets(context_of())) == SparseProbingEvalConfig().dataset_names


@pytest.mark.parametrize(
    ("name", "pair", "values"),
    [
        ("LabHC/bias_in_bios_class_set1", ("professor", "nurse"), ("male", "female")),
        (AMAZON, ("Toys_and_Games", "Gift_Cards"), (1.0, 5.0)),
    ],
)
@pytest.mark.usefixtures("hub")
def test_corners_are_those_sae_bench_takes(name: str, pair: tuple[str, str], values: tuple[Any, Any]) -> None:
    from sae_bench.evals.scr_and_tpp import dataset_creation

    theirs = dataset_creation.get_train_test_data(name, True, 40, 20, 0, pair, values)
    ours = quadrants(name, pair, context_of(), train=40, test=20)
    assert ours.values == tuple(map(str, values))
    for corners, expected in zip((ours.train, ours.test), theirs, strict=True):
        each = len(corners[0, 1])
        assert sorted(corners[0, 0][:each] + corners[0, 1]) == sorted(expected["professor / nurse"])
        assert sorted(corners[1, 0] + corners[1, 1][:each]) == sorted(expected["nurse_data_only"])
        assert sorted(corners[0, 0][:each] + corners[1, 0]) == sorted(expected["male / female"])
        # Of the two corners of its biased classes sae-bench takes twice as many texts.
        assert sorted(corners[0, 0]) == sorted(expected["male_professor / female_nurse"])
        assert sorted(corners[1, 1]) == sorted(expected["female_nurse_data_only"])


@pytest.mark.parametrize("name", [NEWS, EUROPARL, f"{BIOS}_class_set2"])
@pytest.mark.usefixtures("hub")
def test_a_limit_cuts_hub_data(name: str) -> None:
    data = labelled(name, context_of(limit=8), train=4000, test=1000)
    assert {len(texts) for half in (data.train, data.test) for texts in half.values()} == {4}


@pytest.mark.usefixtures("hub")
def test_other_names_have_no_corners() -> None:
    for name in (NEWS, EUROPARL, CODE, f"{AMAZON}_sentiment"):
        with pytest.raises(UserError, match=f"'{name}' has no second attribute"):
            quadrants(name, ("0", "1"), context_of(), train=8, test=4)
    with pytest.raises(UserError, match="has no class 'baker'; it has accountant, architect"):
        quadrants("LabHC/bias_in_bios_class_set1", ("nurse", "baker"), context_of(), train=8, test=4)


def news(labels: int = 4, each: int = 8, text: str | None = "some words") -> Rows:
    return [{"text": text, "label": label} for label in range(labels) for _ in range(each)]


def write_news(folder: Path, train: Rows, test: Rows) -> None:
    for split, rows in {"train": train, "test": test}.items():
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", rows)
    write_card(folder, {"default": {split: f"data/{split}-*" for split in ("train", "test")}})


def test_splits_that_differ_are_named_with_their_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_news(tmp_path / NEWS, news(), [{"words": "a", "label": 0}])
    serve(tmp_path, monkeypatch)
    with pytest.raises(
        UserError,
        match=r"the data set fancyzhx/ag_news cannot be read: Couldn't cast .*column names don't match",
    ):
        labelled(NEWS, context_of(), train=8, test=4)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([{"words": "a", "label": 0}], "has no column 'text'; it has label, words"),
        ([{"text": "a", "kind": 0}], "has no column 'label'; it has kind, text"),
        (news(labels=1), "has 0 texts with label 1, but 4 are needed"),
        (news(each=3), "has 3 texts with label 0, but 4 are needed"),
        (news(text=" \n"), "has empty texts: 4 of the 4 texts taken"),
        (news(text=None), "has empty texts: 4 of the 4 texts taken"),
    ],
)
def test_bad_splits(train: Rows, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_news(tmp_path / NEWS, train, train)
    serve(tmp_path, monkeypatch)
    with pytest.raises((Skip, UserError), match=f"the train split of fancyzhx/ag_news {message}") as raised:
        labelled(NEWS, context_of(), train=8, test=4)
    assert isinstance(raised.value, Skip) == ("are needed" in message)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a"}], r"europarl \(en-fr\) has no column 'translation'; it has text"),
        (
            [{"translation": {"fr": "a", "it": "b"}}],
            r"translation has no column 'en'; it has fr, it",
        ),
        ([{"translation": {"en": "a", "fr": "b"}}], "europarl has 1 texts of class en, but 6 are needed"),
        ([{"translation": {"en": "", "fr": "b"}}] * 9, "europarl has empty texts: 4 of the 4"),
    ],
)
def test_bad_streams(rows: Rows, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.europarl(tmp_path / EUROPARL)
    write_parquet(tmp_path / EUROPARL / "en-fr" / "train-00000-of-00001.parquet", rows)
    serve(tmp_path, monkeypatch)
    with pytest.raises((Skip, UserError), match=message) as raised:
        labelled(EUROPARL, context_of(), train=8, test=4)
    assert isinstance(raised.value, Skip) == ("are needed" in message)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"code": "a"}, "github-code has no column 'path'; it has code"),
        ({"path": "a.py", "content": "a" * 600}, "github-code has 0 texts of class C, but 6 are needed"),
    ],
)
def test_bad_code(
    row: Mapping[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / CODE / "data" / "train-00000-of-01126.parquet", [row] * 9)
    serve(tmp_path, monkeypatch)
    with pytest.raises((Skip, UserError), match=message) as raised:
        labelled(CODE, context_of(), train=8, test=4)
    assert isinstance(raised.value, Skip) == ("are needed" in message)


@pytest.mark.parametrize("name", [NEWS, EUROPARL, CODE])
def test_offline_is_one_sentence_at_once(name: str) -> None:
    with pytest.raises(UserError, match=rf"the data set {name} cannot be read: .*HF_HUB_OFFLINE is set"):
        labelled(name, context_of(), train=8, test=4)


@pytest.mark.parametrize("name", [NEWS, EUROPARL, CODE])
def test_an_unreachable_hub_is_one_sentence_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for proxy in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match=f"the data set {name} cannot be read: 127.0.0.1 cannot be reached"):
        labelled(name, context_of(), train=8, test=4)


def test_a_data_set_kept_in_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no file, whose place would tell which revision it is."""
    monkeypatch.setattr(loading, "data_set_commit", lambda _repository, _revision: "a" * 40)
    with pytest.raises(UserError, match="the data set me/mine cannot be read: datasets keeps it in memory"):
        loading.read_hub("me/mine", lambda: datasets.Dataset.from_list([{"a": 1}]), lambda split: [split])
