"""Absorption on the bundled model: invariances, planted absorption, and what cannot be scored."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from abench.tasks.absorption import Absorption, Spelled
from abench.tasks.absorption.latents import PoleWeights
from abench.tasks.absorption.spelling import LETTERS
from abench.tasks.absorption.words import ProbeDirection, Thresholds, absorption
from pydantic import ValidationError
from signed import WideSAE, flipped, permuted, random_sae
from torch import Tensor

from abench import Context, LanguageModel, Skip, SplitSAE
from abench.config import DataSpec, EvaluationSpec
from abench.conformance.rewritten import InOtherUnits, normalising
from abench.task import checked, parted
from abench.tinyworld import MODEL_DIR

SITE = "blocks.1.hook_resid_post"
DATA = DataSpec(source="tinyworld", dataset=None)
CONTEXT = Context(SITE, EvaluationSpec(limit=700), DATA, 128)
TASK = Absorption(min_letters=6, epochs=20)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@pytest.fixture(scope="module")
def spelled(lm: LanguageModel) -> Spelled:
    before = torch.get_rng_state()
    prepared = TASK.prepare(lm, CONTEXT)
    assert torch.equal(before, torch.get_rng_state())
    return prepared


def scored(sae: Any, spelled: Spelled, lm: LanguageModel) -> tuple[dict[str, float], dict[str, Any]]:
    # Nothing that an earlier SAE's probe could leave behind.
    spelled.learnt.clear()
    with torch.no_grad():
        scores, details = parted(TASK, TASK.score(sae, spelled, lm, CONTEXT))
    return checked(TASK, scores), details


class PlantedSAE:
    """Latents that stand for letters, as the probe reads them, and words that take them over.

    Each used letter has a latent that fires where its probe does, with the whole projection. At the words
    of `absorbed` it is silent, and a latent of the word carries the letter instead.
    """

    def __init__(self, spelled: Spelled, absorbed: Tensor, *, reading: str = "apart") -> None:
        """`reading`: `apart`, a latent a letter; `paired`, a signed latent for two, at its two poles."""
        self._spelled, self._absorbed, self._paired = spelled, absorbed, reading == "paired"
        self._letters = list(spelled.used)
        weight = spelled.probe.weight[:, self._letters]
        self.unit = (weight / weight.norm(dim=0)).T
        self.words = spelled.found.residual[absorbed].double()
        owners = [self._letters.index(int(letter)) for letter in spelled.found.letters[absorbed]]
        self.W_dec = torch.cat([self._joined(self.unit), self.unit[owners]])
        self.W_enc, self.b_dec = torch.zeros_like(self.W_dec).T, torch.zeros(self.W_dec.shape[1])
        self.device, self.dtype = torch.device("cpu"), torch.float64
        self.cfg = SimpleNamespace(d_in=self.W_dec.shape[1], d_sae=len(self.W_dec))

    def encode(self, x: Tensor) -> Tensor:
        logits = self._spelled.probe.logits(x)[:, self._letters]
        letters = torch.where(logits > 0, x @ self.unit.T, 0.0).clamp_min(0)
        here = torch.cdist(x, self.words) < 1e-3 if len(self.words) else torch.zeros(len(x), 0).bool()
        letters[here.any(-1)] = 0
        return torch.cat([self._joined(letters.T, scale=4.0).T, here * x.norm(dim=-1, keepdim=True)], dim=1)

    def _joined(self, rows: Tensor, scale: float = 1.0) -> Tensor:
        """Rows [letters, n] as they are, or the differences of two each (the last alone if they are odd)."""
        if not self._paired:
            return rows
        first, second = rows[0::2], torch.zeros_like(rows[0::2])
        second[: len(rows) // 2] = rows[1::2]
        joined = first - second
        return scale * joined if scale != 1 else joined / joined.norm(dim=-1, keepdim=True)


def some_of_each_letter(spelled: Spelled) -> Tensor:
    """Numbers of about half of the words of each letter, of those with anything along its probe.

    (At others the probe says the letter by its bias alone, and there is nothing to absorb.)
    """
    letters = spelled.found.letters
    rows = [
        torch.nonzero((letters == letter) & torch.from_numpy(spelled.along(letter) > 0)).flatten()
        for letter in spelled.used
    ]
    return torch.cat([each[: len(each) // 2] for each in rows])


def share_of_letters(spelled: Spelled, chosen: Tensor) -> float:
    letters = spelled.found.letters
    shares = [float((letters[chosen] == letter).sum() / (letters == letter).sum()) for letter in spelled.used]
    return sum(shares) / len(shares)


class Turned:
    """The same function with latents in another order and about half of them turned round."""

    def __init__(self, sae: Any, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._sae, self._order = sae, torch.randperm(sae.cfg.d_sae, generator=generator)
        self._sign = torch.randint(0, 2, (sae.cfg.d_sae,), generator=generator) * 2.0 - 1
        self.W_dec = (sae.W_dec * self._sign[:, None])[self._order]
        self.device, self.dtype, self.cfg = sae.device, sae.dtype, sae.cfg

    def encode(self, x: Tensor) -> Tensor:
        return (self._sae.encode(x) * self._sign)[:, self._order]


@pytest.mark.parametrize("way", ["layer_norm", "constant_norm_rescale"])
def test_the_same_function_in_other_units_has_the_same_scores(
    way: str, lm: LanguageModel, spelled: Spelled
) -> None:
    sae = normalising(random_sae(width=256, k=16), way)
    (first, details), (second, others) = (scored(each, spelled, lm) for each in (sae, InOtherUnits(sae)))
    assert first == pytest.approx(second, abs=1e-6)
    assert [each["latents"] for each in details["letters"].values()] == [
        each["latents"] for each in others["letters"].values()
    ]


@pytest.mark.parametrize("change", [flipped, permuted])
@pytest.mark.parametrize("split", [False, True], ids=["native", "split"])
def test_signs_and_order_of_latents_change_nothing(
    change: Any, split: bool, lm: LanguageModel, spelled: Spelled
) -> None:
    sae = random_sae(width=256, k=16)
    saes = [sae, change(sae, seed=1)]
    first, second = (scored(SplitSAE(each) if split else each, spelled, lm)[0] for each in saes)
    assert first == pytest.approx(second, abs=1e-6)


def test_the_split_view_is_the_wide_sae(lm: LanguageModel, spelled: Spelled) -> None:
    sae = random_sae(width=256, k=16)
    split, wide = scored(SplitSAE(sae), spelled, lm), scored(WideSAE(sae), spelled, lm)
    assert split[0] == pytest.approx(wide[0], abs=1e-6)
    assert split[1]["letters"] == wide[1]["letters"]


def test_an_l1_probe_shared_by_the_views_gives_what_each_gives_alone(
    lm: LanguageModel, spelled: Spelled
) -> None:
    sae = random_sae(width=256, k=16)
    alone = scored(SplitSAE(sae), spelled, lm)[0]
    scored(sae, spelled, lm)
    assert sae in spelled.learnt
    with torch.no_grad():
        assert TASK.score(SplitSAE(sae), spelled, lm, CONTEXT)[0] == alone


def test_latents_for_letters_absorb_nothing(lm: LanguageModel, spelled: Spelled) -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    scores, details = scored(PlantedSAE(spelled, nothing), spelled, lm)
    assert scores["mean_absorption_fraction_score"] == pytest.approx(0, abs=1e-9)
    assert scores["mean_full_absorption_score"] == 0
    assert scores["mean_num_split_features"] == pytest.approx(1, abs=0.2)
    assert scores["letters"] == len(spelled.used)
    probe_f1 = [spelled.f1[letter] for letter in spelled.used]
    assert scores["mean_sparse_probe_f1"] == pytest.approx(sum(probe_f1) / len(probe_f1), abs=0.05)
    for number, letter in enumerate(spelled.used):
        assert details["letters"][LETTERS[letter]]["latents"][0] == number
    # Random latents say little about letters.
    assert scored(random_sae(width=256, k=16), spelled, lm)[0]["mean_sparse_probe_f1"] < 0.25


def test_planted_absorption_is_found_word_by_word(lm: LanguageModel, spelled: Spelled) -> None:
    absorbed = some_of_each_letter(spelled)
    share = share_of_letters(spelled, absorbed)
    assert 0.2 < share < 0.6
    sae = PlantedSAE(spelled, absorbed)
    for each in (sae, Turned(sae, 0), Turned(sae, 1), SplitSAE(sae), SplitSAE(Turned(sae, 2))):
        scores = scored(each, spelled, lm)[0]
        assert scores["mean_full_absorption_score"] == pytest.approx(share, abs=1e-6)
        assert scores["mean_absorption_fraction_score"] == pytest.approx(share, abs=1e-6)


def test_a_letter_at_a_negative_pole_is_found(lm: LanguageModel, spelled: Spelled) -> None:
    """One signed latent for two letters, which a rule by the sign of weights or codes would miss."""
    sae = PlantedSAE(spelled, torch.zeros(0, dtype=torch.int64), reading="paired")
    for each in (sae, Turned(sae, 0)):
        scores = scored(each, spelled, lm)[0]
        assert scores["mean_full_absorption_score"] < 0.05
        assert scores["mean_absorption_fraction_score"] < 0.05
    letters = scored(sae, spelled, lm)[1]["letters"]
    for number, letter in enumerate(spelled.used):
        assert letters[LETTERS[letter]]["latents"][0] == number // 2


def test_a_latent_has_the_weight_of_its_better_pole_and_of_no_pole_that_never_fires() -> None:
    """Latents: both poles fire; only the positive, only the negative one; none."""
    weight = torch.zeros(8, 26, dtype=torch.float64)
    weight[:, 3] = torch.tensor([-0.2, -0.5, 0.0, 0.0, 0.7, 0.0, -0.3, 0.0])
    fires = torch.tensor([True, True, False, False, True, False, True, False])
    weights = PoleWeights(weight, fires)
    assert weights.of_latents()[:, 3].tolist() == pytest.approx([0.7, -0.5, -0.3, 0.0])
    assert weights.of_poles() is weight


def by_hand(
    codes: list[float], projection: list[float], cosine: list[float], along: float, main: list[int]
) -> tuple[float, int]:
    """The task's verdict on one word of four latents."""
    from scipy.sparse import csr_array

    row = csr_array(torch.tensor([codes]).numpy())
    direction = ProbeDirection(torch.tensor(projection).numpy(), torch.tensor(cosine).numpy())
    return absorption(row, [along], direction, main, Thresholds())


@pytest.mark.parametrize(
    ("codes", "fraction", "full"),
    [
        ([0.0, 5.0, 0.0, 0.0], 1.0, 1),  # silent main latent, one other carries half of the projection
        ([0.0, 3.0, 0.0, 0.0], 0.0, 0),  # 0.3 of the projection is not enough
        ([0.0, -5.0, 0.0, 0.0], 0.0, 0),  # a pole that points away
        ([0.0, 0.0, -5.0, 0.0], 1.0, 1),  # a negative pole that points the right way
        ([2.0, 6.0, 0.0, 0.0], 0.75, 0),  # main 2, others 6 of the missing 8
        ([5.0, 9.0, 0.0, 0.0], 0.5, 0),  # others fill no more than what is missing
        ([10.0, 6.0, 0.0, 0.0], 0.0, 0),  # nothing is missing
        ([-2.0, 6.0, 0.0, 0.0], 1.0, 0),  # main latent fires the wrong way: absorbed, but not silent
        ([0.0, 0.0, 0.0, 50.0], 0.0, 1),  # cosine 0.05: enough for full absorption only
        ([0.0, 0.0, 0.0, 0.0], 0.0, 0),
    ],
)
def test_one_word(codes: list[float], fraction: float, full: int) -> None:
    verdict = by_hand(codes, [1.0, 1.0, -1.0, 0.1], [1.0, 0.5, -0.5, 0.05], along=10.0, main=[0])
    assert verdict == pytest.approx((fraction, full))


def test_no_more_than_three_latents_absorb_together() -> None:
    from scipy.sparse import csr_array

    direction = ProbeDirection(torch.ones(6).numpy(), torch.full((6,), 0.5).numpy())
    row = csr_array(torch.tensor([[5.0, 1.0, 1.0, 1.0, 1.0, 1.0]]).numpy())
    # Three of the five others carry 3 of 10, two 2 of 10; what is missing is 5.
    limits = [Thresholds(absorbers=3, projection_share=0.3), Thresholds(absorbers=2, projection_share=0.2)]
    fractions = [absorption(row, [10.0], direction, [0], each)[0] for each in limits]
    assert fractions == pytest.approx([3 / 8, 2 / 7])


def test_too_few_letters_are_a_skip_with_the_reason(lm: LanguageModel) -> None:
    with pytest.raises(Skip, match=r"knows only \d+ of 26 letters at blocks.1.*but 26 are needed"):
        Absorption(min_letters=26, epochs=1).prepare(lm, Context(SITE, EvaluationSpec(limit=64), DATA, 128))


def test_too_few_words_are_a_skip_with_the_reason(lm: LanguageModel) -> None:
    tiny = Context(SITE, EvaluationSpec(limit=5), DATA, 128)
    with pytest.raises(Skip, match="5 words are too few"):
        TASK.prepare(lm, tiny)


def test_codes_that_are_not_finite_are_an_error(lm: LanguageModel, spelled: Spelled) -> None:
    sae = random_sae("relu", width=64)
    sae.b_enc.data[3] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        scored(sae, spelled, lm)


def test_an_sae_of_few_latents_and_one_that_never_fires(lm: LanguageModel, spelled: Spelled) -> None:
    scored(random_sae(width=4, k=2), spelled, lm)
    silent = random_sae("relu", width=64)
    silent.b_enc.data.fill_(-1e6)
    scores = scored(silent, spelled, lm)[0]
    assert scores["mean_full_absorption_score"] == scores["mean_sparse_probe_f1"] == 0


def test_options_out_of_range_are_refused() -> None:
    for option in ({"max_k": 0}, {"train_share": 1.0}, {"min_letters": 27}, {"shots": 3}):
        with pytest.raises(ValidationError):
            Absorption(**option)


def test_the_global_random_state_is_left_alone(lm: LanguageModel, spelled: Spelled) -> None:
    before = torch.get_rng_state()
    scored(random_sae(width=64), spelled, lm)
    assert torch.equal(before, torch.get_rng_state())
