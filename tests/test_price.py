"""The price of a run: what tasks state against what they do, sizes without weights, and what is printed."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Abench
from small_run import small_plan

from abench import Context, CostSetting, DataSpec, EvaluationSpec, LanguageModel, Task, site_name
from abench.cli.price import duration
from abench.config import config_names, model_config
from abench.cost import Work
from abench.lm.dimensions import dimensions_of, other_dimensions
from abench.plugins import find_tasks, get_task
from abench.pricing.calibration import Bench
from abench.pricing.measured import measuring
from abench.pricing.price import price_of
from abench.results.store import Store
from abench.runs.runner import run_plan
from abench.tinyworld import MODEL_DIR
from abench.variants import SAEShape, get_variant

DATA = DataSpec(source="tinyworld", dataset=None)
EVALUATION = EvaluationSpec(tokens=5120)
SITE = site_name(1)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load("tiny")


class Counted:
    """Tokens that the model's parts have really processed."""

    def __init__(self) -> None:
        self.last_block = self.logits = 0


@contextmanager
def counting(lm: LanguageModel) -> Iterator[Counted]:
    """Count tokens through the last block, and positions with logits."""
    counted = Counted()

    def block(_module: Any, args: Any, kwargs: Any, _output: Any) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        counted.last_block += x.shape[0] * x.shape[1]

    def head(_module: Any, args: Any) -> None:
        counted.logits += args[0].shape[0] * args[0].shape[1]

    hooks = [
        lm._layers[-1].register_forward_hook(block, with_kwargs=True),
        lm.model.get_output_embeddings().register_forward_pre_hook(head),
    ]
    try:
        yield counted
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def reading(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of tokens of each pass to the site."""
    seen: list[int] = []
    real: Callable[..., Any] = LanguageModel.residuals

    def residuals(self: LanguageModel, tokens: torch.Tensor, sites: Any) -> Any:
        seen.append(tokens.numel())
        return real(self, tokens, sites)

    monkeypatch.setattr(LanguageModel, "residuals", residuals)
    yield seen
    monkeypatch.undo()


def scored(task: Task, lm: LanguageModel) -> None:
    sae = get_variant("topk").build(SAEShape(lm.d_model, 256, 8), 0).eval().requires_grad_(False)
    ctx = Context(SITE, EVALUATION, DATA, 128, saes=(sae,), memory={})
    with torch.no_grad():
        assert task.skip(lm, ctx) is None
        task.score(sae, task.prepare(lm, ctx), lm, ctx)


@pytest.mark.parametrize(
    ("name", "options", "within"),
    [
        ("core", {}, 1e-9),
        ("bidirectionality", {"validation": 0}, 1e-9),
        ("autointerp", {"validation": 0}, 1e-9),
        ("planted", {}, 1e-9),
        ("interference", {}, 1e-9),
        ("sparse_probing", {}, 0.04),
        ("tpp", {"train": 200, "test": 100, "probe_epochs": 1}, 0.1),
        ("scr", {"train": 200, "test": 100, "probe_epochs": 1, "datasets": ("tinyworld/reviews",)}, 0.1),
        ("absorption", {"epochs": 1, "examples": 2, "min_letters": 1, "min_probe_f1": 0}, 0.12),
    ],
)
def test_tasks_read_what_they_state(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], within: float
) -> None:
    task = get_task(name, options, find_tasks())
    with counting(lm) as counted, reading(lm, monkeypatch) as passes:
        if name == "scr":
            monkeypatch.setattr("abench.tasks.scr._all_mean_something", lambda _: True)
        scored(task, lm)
    setting = CostSetting(EVALUATION, DATA, 128, vocabulary=lm.vocabulary)
    cost = task.cost(setting)
    assert cost is not None
    stated = cost.once + cost.per_sae + cost.per_model
    # Labelled texts are stated by their mean length; with as few texts as here, batches need more padding.
    assert stated.lower == pytest.approx(sum(passes), rel=within)
    assert stated.upper == pytest.approx(counted.last_block, rel=within)
    assert stated.logits == pytest.approx(counted.logits, rel=within)


def test_works_add_up_and_multiply() -> None:
    assert Work(lower=2, steps=1) + 3 * Work(lower=1, logits=2) == Work(lower=5, logits=6, steps=1)
    assert Work(lower=5, upper=3, generated=2).tokens == 7


def test_sizes_come_from_weights_else_from_the_configuration(tmp_path: Path) -> None:
    tiny = dimensions_of(model_config("tiny"))
    assert tiny.source == "weights"
    assert tiny.parameters == sum(p.numel() for p in LanguageModel.load("tiny").model.parameters())
    qwen = dimensions_of(model_config("qwen3-4b"))
    assert (qwen.source, round(qwen.parameters / 1e9, 2)) == ("configuration", 4.02)
    for name in config_names("models"):
        config = model_config(name)
        if config.kind == "language":
            assert dimensions_of(config).source != "estimate", name
    bare = model_config("qwen3-4b").model_copy(update={"block_parameters": None})
    assert dimensions_of(bare).source == "estimate"


def test_a_wrong_size_is_found_when_the_weights_are_opened() -> None:
    wrong = model_config("tiny").model_copy(update={"vocabulary": 5000})
    sentence = other_dimensions(wrong, Path(MODEL_DIR)) or ""
    assert "configured with vocabulary 5,000, but the weights" in sentence
    assert "have 2,244" in sentence
    assert other_dimensions(model_config("tiny"), Path(MODEL_DIR)) is None


def test_the_paper_s_grid_is_priced_without_weights(abench: Abench, tmp_path: Path) -> None:
    grid = ("--layers", "early,middle,late", "--k", "128,256", "--seeds", "0,1,2,3,4")
    many = ("--variants", "abstopk,topk,jumprelu", "--tasks", "all", *grid)
    started = time.process_time()
    priced = abench("run", "--dry-run", "--no-calibration", "--model", "qwen3-4b", *many)
    assert priced.code == 0, priced.err
    assert time.process_time() - started < 10
    lines = priced.out.splitlines()
    table = lines[lines.index("") + 1 :]
    table = table[: next(n for n, line in enumerate(table) if line.startswith("Reading the text"))]
    assert max(map(len, table)) <= 80
    for what in ("training", "core", "ravel", "unlearning"):
        assert [line.split()[2] for line in table if line.split()[:1] == [what]] == ["6", "18", "30"]
    assert "Does not fit: results need" in priced.out or "the model from the hub" in priced.out
    assert "SAEs, gradients, moments" in priced.out
    assert " time" not in table[0]


def test_what_is_cached_is_not_priced(tmp_path: Path) -> None:
    plan, store = small_plan(variants=("topk",)), Store.open(tmp_path / "results", create=True)
    before = price_of(plan, store)
    assert [part.what for part in before.parts] == ["reading text", "training", "core"]
    run_plan(plan, store)
    assert price_of(plan, store).parts == ()
    more = price_of(small_plan(variants=("topk", "abstopk")), store)
    assert {part.what: part.saes for part in more.parts} == {"reading text": 1, "training": 1, "core": 1}
    assert more.todo.cached_cells == 1


def test_times_are_measured_once_per_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABENCH_CACHE", str(tmp_path))
    first = price_of(small_plan(), None, rates=measuring("cpu"))
    assert first.rates is not None
    assert first.rates.passes
    assert all(part.seconds and part.seconds > 0 for part in first.parts)
    monkeypatch.setattr("abench.pricing.calibration.fastest", lambda *_: pytest.fail("measured again"))
    again = price_of(small_plan(), None, rates=measuring("cpu"))
    assert again.rates == first.rates
    assert len(list(Bench.on("cpu", 1).kept.root.rglob("*.json"))) >= 6


def test_a_dry_run_without_calibration_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from abench.cli import main\n"
        "sys.argv = ['abench', 'run', '--dry-run', '--no-calibration', '--model', 'qwen3-4b', '--results', "
        f"{str(tmp_path / 'none')!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_a_task_of_a_third_party_need_not_state_its_cost(abench: Abench, tmp_path: Path) -> None:
    assert abench("new", "task", "mine", "--dir", tmp_path).code == 0
    priced = abench("run", "--dry-run", "--no-calibration", "--plugins", tmp_path, "--tasks", "mine,core")
    assert priced.code == 0
    assert "not stated" in priced.out
    assert "Not included, as they do not state their cost: mine." in priced.out


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "< 1 s"),
        (90, "90 s"),
        (600, "10 min"),
        (86_400, "24 h"),
        (1e6, "11.6 days"),
        (4e8, "4,630 days"),
    ],
)
def test_a_time_is_shown_without_exponents(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
