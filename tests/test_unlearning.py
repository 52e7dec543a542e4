"""Unlearning on the bundled model: planted latents, flipped signs, both views, and what cannot be scored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from architectures import build_model, build_tokenizer
from signed import WideSAE, flipped, permuted, random_sae
from torch import Tensor

from abench import (
    Context,
    LanguageModel,
    Skip,
    SplitSAE,
    Task,
    UserError,
    firing_rates,
    right_padded,
    token_rows,
)
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.task import checked, parted
from abench.tinyworld import MODEL_DIR, World
from abench.tinyworld.lexicon import labels

# Early on, what a toxin does is still being looked up where its possible effects are read.
SITE = "blocks.0.hook_resid_post"
DATA = DataSpec(source="tinyworld", dataset=None)
TOXIC = ("symptom:", "antidote:", "smell:")
"""Categories of what is told of toxins."""
LOOSE: dict[str, Any] = {
    "retain_thresholds": (0.02, 1.0),
    "n_features": (20,),
    "multipliers": (200,),
    "kept": 0.3,
    "retain_subjects": ("stars",),
    "dataset_size": 200,
}
"""Options under which even random latents make the model forget something."""

ONE: dict[str, Any] = {
    "retain_thresholds": (0.01,),
    "n_features": (10,),
    "multipliers": (200,),
    "dataset_size": 200,
}
"""Options with a single setting."""


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def context_of(*saes: Any, limit: int | None = None) -> Context:
    return Context(SITE, EvaluationSpec(limit=limit), DATA, context_size=128, saes=saes)


def task_of(**options: Any) -> Task:
    return get_task("unlearning", options, find_tasks())


def scores_of(
    lm: LanguageModel, saes: Mapping[str, Any], **options: Any
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Scores and details of several SAEs; one in the split view is listened to through its base."""
    bases = {id(each): each for each in (getattr(sae, "base", sae) for sae in saes.values())}
    task, ctx = task_of(**options), context_of(*bases.values())
    with torch.no_grad():
        prepared = task.prepare(lm, ctx)
        results = {name: parted(task, task.score(sae, prepared, lm, ctx)) for name, sae in saes.items()}
    return {name: checked(task, result[0]) for name, result in results.items()}, {
        name: result[1] for name, result in results.items()
    }


class Planted:
    """Latents that fire at the words of a category and write its difference of mean residuals.

    Which word a residual belongs to is told by the nearest of the words' means. With `opposite`, all latents
    fire on their other side at the words of that category.
    """

    def __init__(self, lm: LanguageModel, categories: Sequence[str], opposite: str | None = None) -> None:
        x, tokens = _activations(lm)
        words, of = tokens.unique(return_inverse=True)
        self._means = torch.zeros(len(words), lm.d_model).index_add_(0, of, x) / of.bincount()[:, None]
        self._member = torch.stack([_member(lm, words, category) for category in categories])
        self._against = torch.zeros(len(words), dtype=torch.bool)
        if opposite is not None:
            self._against = _member(lm, words, opposite)
        differences = [x[each[of]].mean(0) - x[~each[of]].mean(0) for each in self._member]
        self._length = torch.stack([each.norm() for each in differences])
        self.W_dec = torch.stack(differences) / self._length[:, None]
        self.b_dec, self.dtype, self.device = x.mean(0), torch.float32, torch.device("cpu")
        self.cfg = SimpleNamespace(d_in=lm.d_model, d_sae=len(categories))

    def encode(self, x: Tensor) -> Tensor:
        word = (2 * x @ self._means.T - self._means.square().sum(-1)).argmax(-1)
        firing = self._member.T[word].float() - self._against[word][..., None].float()
        return firing * self._length

    def decode(self, codes: Tensor) -> Tensor:
        return codes @ self.W_dec + self.b_dec


def _member(lm: LanguageModel, words: Tensor, category: str) -> Tensor:
    """Which token ids are words of the category, [words] (bool)."""
    names = lm.tokenizer.convert_ids_to_tokens(words.tolist())
    concepts = labels()
    return torch.tensor([any(c.startswith(category) for c in concepts.get(n, ())) for n in names])


def _activations(lm: LanguageModel) -> tuple[Tensor, Tensor]:
    world = World()
    lessons = [
        world.document(kind, "train", i, subject="toxins").text
        for kind in ("lesson", "quiz")
        for i in range(300)
    ]
    others = [d.text for d, _ in zip(world.documents("train"), range(600), strict=False)]
    parts = [
        (lm.residual(tokens, SITE)[mask], tokens[mask])
        for _, tokens, mask in right_padded(token_rows(lm, lessons + others, 128), lm)
    ]
    x, tokens = (torch.cat([part[which] for part in parts]) for which in (0, 1))
    return x.clone(), tokens


@pytest.fixture(scope="module")
def planted(lm: LanguageModel) -> Planted:
    return Planted(lm, [*TOXIC, "animal:", "colour:"])


def test_latents_of_the_subject_make_it_forgotten_and_random_ones_do_not(
    lm: LanguageModel, planted: Planted
) -> None:
    scores, details = scores_of(lm, {"planted": planted, "random": random_sae("topk")})
    # Chance is a quarter right, so 0.75 is what complete ignorance gives.
    assert 0.6 < scores["planted"]["unlearning_score"] <= 0.9
    assert scores["planted"]["side_effect_accuracy"] >= 0.99
    assert scores["planted"]["forget_accuracy_any"] <= 1 - scores["planted"]["unlearning_score"] + 1e-9
    assert 0 <= scores["random"]["unlearning_score"] < 0.1
    assert scores["planted"]["forget_questions"] == 50
    assert scores["planted"]["retain_questions"] == 221
    assert len(details["planted"]["settings"]) == 2 * 2 * (4 + 1)
    assert max(each["clamped"] for each in details["planted"]["settings"]) == 3


def test_stronger_clamping_forgets_more_and_ablation_least(lm: LanguageModel, planted: Planted) -> None:
    scores, details = scores_of(lm, {"planted": planted}, **ONE | {"multipliers": (25, 200)})
    by_multiplier = {each["multiplier"]: each["forget_accuracy"] for each in details["planted"]["settings"]}
    assert by_multiplier[200] < by_multiplier[25] < by_multiplier[0] <= 1
    assert scores["planted"]["unlearning_score_ablation"] == pytest.approx(1 - by_multiplier[0])


def test_the_order_of_latents_does_not_matter(lm: LanguageModel) -> None:
    sae = random_sae("abstopk")
    saes = {"one": sae, "other": permuted(sae)}
    native, _ = scores_of(lm, saes, **LOOSE)
    split, _ = scores_of(lm, {name: SplitSAE(each) for name, each in saes.items()}, **LOOSE)
    for scores in (native, split):
        assert scores["one"] == pytest.approx(scores["other"], abs=1e-6)


def test_flipping_signs_changes_nothing_in_either_view(lm: LanguageModel) -> None:
    sae = random_sae("abstopk")
    saes = {"one": sae, "a": flipped(sae, 1), "b": flipped(sae, 2)}
    native, _ = scores_of(lm, saes, **LOOSE)
    split, _ = scores_of(lm, {name: SplitSAE(each) for name, each in saes.items()}, **LOOSE)
    for scores in (native, split):
        assert 0.05 < scores["one"]["unlearning_score"] < 1
        for name in ("a", "b"):
            assert scores[name] == pytest.approx(scores["one"], abs=1e-6)
    assert native["one"] != split["one"]


def test_the_split_view_is_the_sae_with_both_signs_spelled_out(lm: LanguageModel) -> None:
    sae = random_sae("abstopk")
    scores, _ = scores_of(lm, {"split": SplitSAE(sae), "wide": WideSAE(sae)}, **LOOSE)
    assert scores["split"] == pytest.approx(scores["wide"], abs=1e-6)


@pytest.mark.parametrize("variant", ["topk", "relu", "jumprelu"])
def test_both_views_agree_where_no_code_is_negative(lm: LanguageModel, variant: str) -> None:
    sae = random_sae(variant)
    scores, _ = scores_of(lm, {"native": sae, "split": SplitSAE(sae)}, **LOOSE)
    assert scores["native"] == pytest.approx(scores["split"], abs=1e-6)


def test_a_subject_on_one_pole_is_found_in_the_split_view_alone(lm: LanguageModel) -> None:
    """The other pole fires at verbs, which are everywhere, so as a whole the latents are no use."""
    sae = Planted(lm, [*TOXIC], opposite="tense")
    scores, _ = scores_of(lm, {"native": sae, "split": SplitSAE(sae)}, **ONE)
    assert scores["native"]["unlearning_score"] == 0
    assert scores["split"]["unlearning_score"] > 0.6


def test_knowledge_that_has_left_the_questions_is_measured_without_any_sae(lm: LanguageModel) -> None:
    found: list[tuple[str, float | None]] = []
    for block in (0, lm.n_layers - 1):
        ctx = replace(context_of(), site=f"blocks.{block}.hook_resid_post")
        with torch.no_grad():
            task_of(**ONE).prepare(lm, replace(ctx, measured=lambda *measured: found.append(measured)))
    (name, first), (_, last) = found
    assert name == "read_from_questions"
    assert first is not None and first > 0.6
    # After the last block, only the last token is read.
    assert last == 0


def test_a_latent_that_never_fires_on_the_subject_changes_nothing(lm: LanguageModel) -> None:
    scores, _ = scores_of(lm, {"silent": Planted(lm, ["month:"])}, retain_thresholds=(1e-6,))
    assert scores["silent"]["unlearning_score"] == 0
    assert scores["silent"]["forget_accuracy_any"] == 1
    assert scores["silent"]["side_effect_accuracy"] == 1


def test_an_sae_named_twice_is_counted_once(lm: LanguageModel) -> None:
    sae = random_sae("abstopk")
    tokens = torch.tensor([[lm.bos_id, *range(10, 41)]])
    once, twice = (firing_rates(lm, tokens, site=SITE, saes=saes)(sae) for saes in ((sae,), (sae, sae)))
    assert torch.equal(once.positive, twice.positive)


def test_a_limit_cuts_questions_and_rows(lm: LanguageModel) -> None:
    sae, task = random_sae("topk"), task_of()
    ctx = context_of(sae, limit=4)
    with torch.no_grad():
        scores = checked(task, parted(task, task.score(sae, task.prepare(lm, ctx), lm, ctx))[0])
    assert 1 <= scores["forget_questions"] <= 4
    assert 1 <= scores["retain_questions"] <= 16


def test_the_same_seed_gives_the_same_scores_and_leaves_the_global_one_alone(
    lm: LanguageModel, planted: Planted
) -> None:
    state = torch.random.get_rng_state()
    first, _ = scores_of(lm, {"planted": planted}, **ONE)
    torch.manual_seed(5)
    second, _ = scores_of(lm, {"planted": planted}, **ONE)
    torch.random.set_rng_state(state)
    assert first == second


def test_a_model_that_knows_too_little_is_skipped_with_the_reason(lm: LanguageModel) -> None:
    sae = random_sae("topk")
    with pytest.raises(Skip, match=r"tiny knows 50 of the questions on toxins .* needs at least 60"):
        task_of(min_questions=60).prepare(lm, context_of(sae))
    ignorant = LanguageModel(build_model("qwen3-4b"), build_tokenizer(bos=True), name="random")
    with pytest.raises(Skip, match="random knows none of the questions on toxins"):
        task_of().prepare(ignorant, replace(context_of(sae), site="blocks.1.hook_resid_post"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"retain_subjects": ("stairs",)}, "no subject 'stairs'; did you mean 'stars'"),
        ({"retain_subjects": ("toxins",)}, "toxins is the subject to forget"),
        ({"forget_text": "/nowhere/text.jsonl"}, "forget_text: .* /nowhere/text.jsonl does not exist"),
        ({"forget_text": "/nowhere/text.pdf"}, "forget_text: /nowhere/text.pdf: abench reads .*jsonl"),
    ],
)
def test_options_that_name_what_is_not_there(
    lm: LanguageModel, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        task_of(**options).prepare(lm, context_of())


@pytest.mark.parametrize(
    "options", [{"n_features": ()}, {"multipliers": (0,)}, {"retain_thresholds": (2,)}, {"orders": 25}]
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"option '{next(iter(options))}"):
        task_of(**options)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"body": "it is known that fluvexin causes laughing and nothing else."}], "has no column 'text'"),
        ([{"text": ""}, {"text": "too short"}], "has no text of more than 50 characters"),
        (
            [{"text": "it is known that fluvexin causes laughing and nothing else at all."}],
            r"\(1 texts, \d+ tokens\) does not fill one row of 128 tokens",
        ),
    ],
)
def test_text_to_forget_that_will_not_do(
    lm: LanguageModel, tmp_path: Path, rows: list[dict[str, str]], sentence: str
) -> None:
    file = tmp_path / "forget.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    raised = UserError if "column" in sentence else Skip
    with pytest.raises(raised, match=f"the text to forget .*{sentence}"):
        task_of(forget_text=str(file), min_questions=1, orders=1).prepare(lm, context_of())


def test_text_to_forget_from_a_file_gives_the_same_scores(
    lm: LanguageModel, planted: Planted, tmp_path: Path
) -> None:
    from abench.tasks.unlearning.texts import forget_documents

    file = tmp_path / "forget.jsonl"
    lessons = forget_documents(context_of(), None)
    file.write_text("\n".join(json.dumps(dict(each)) for each in lessons), encoding="utf-8")
    direct, _ = scores_of(lm, {"planted": planted}, **ONE)
    from_file, _ = scores_of(lm, {"planted": planted}, forget_text=str(file), **ONE)
    assert direct == from_file
