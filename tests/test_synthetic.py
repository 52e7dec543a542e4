"""Synthetic models: what is drawn is what the spec says, and a pure function of spec, seed and number."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from abench.config import DataSpec, ModelConfig, TrainingSpec, config_names, load_run, model_config
from abench.config.synthetic_spec import SyntheticSpec
from abench.data.activations import ActivationStream
from abench.data.synthetic import SyntheticModel
from abench.errors import UserError
from abench.lm.catalogue import fetched_commit, find_model, local_commit

SPEC = SyntheticSpec(features=40, l0=5, zipf_exponent=0.5, two_sided=0.5, positive=0.7, noise=0.1, bias=2.0)
COUNT = 40_000


def model(d_model: int = 48, **changes: object) -> SyntheticModel:
    return SyntheticModel(SyntheticSpec(**(SPEC.model_dump(exclude_unset=True) | changes)), d_model, name="s")


def coefficients(world: SyntheticModel) -> Tensor:
    return world.sample(COUNT, "train", seed=0, index=0).coefficients


# What is drawn


def test_activations_are_the_sum_they_claim_to_be() -> None:
    world = model()
    z, x = world.sample(COUNT, "train", seed=0, index=0)
    noise = (x - z @ world.directions - world.bias).double()
    assert float(world.bias.norm()) == pytest.approx(2.0, rel=1e-5)
    assert float(noise.std()) == pytest.approx(0.1, rel=0.01)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.001)


def test_features_fire_as_often_as_the_spec_says() -> None:
    rates = (coefficients(model()) != 0).double().mean(0)
    expected = torch.tensor(SPEC.firing_probabilities(), dtype=torch.float64)
    assert float(rates.sum()) == pytest.approx(5, rel=0.01)
    assert float((rates - expected).abs().max()) < 0.01
    assert expected[0] / expected[3] == pytest.approx(2)  # rank^-0.5


def test_signs_follow_their_probabilities() -> None:
    world = model()
    z = coefficients(world)
    positive = (z > 0).sum(0) / (z != 0).sum(0)
    one_sided = world.positive == 1
    assert int(one_sided.sum()) == 20
    assert bool((positive[one_sided] == 1).all())
    assert float((positive[~one_sided] - 0.7).abs().max()) < 0.05
    explicit = SyntheticModel(SyntheticSpec(features=3, l0=1, positive=(0.0, 1.0, 0.5)), 4, name="s")
    z = coefficients(explicit)
    assert ((z > 0).sum(0) / (z != 0).sum(0)).tolist() == pytest.approx([0, 1, 0.5], abs=0.02)


@pytest.mark.parametrize(
    ("distribution", "mean", "sd"), [("constant", 2, 0), ("normal", 2, 0.3), ("exponential", 2, 2)]
)
def test_coefficients_have_their_distribution(distribution: str, mean: float, sd: float) -> None:
    z = coefficients(model(coefficients=distribution, mean=2.0, sd=0.3))
    sizes = z[z != 0].abs().double()
    assert float(sizes.mean()) == pytest.approx(mean, rel=0.01)
    assert float(sizes.std()) == pytest.approx(sd, rel=0.02, abs=1e-6)


def test_directions_are_orthogonal_where_they_fit_and_nearly_so_beyond() -> None:
    exact = model().directions
    torch.testing.assert_close(exact @ exact.T, torch.eye(40), atol=1e-5, rtol=0)
    crowded, free = (model(20, directions=kind).directions for kind in ("orthogonal", "random"))
    for directions in (crowded, free):
        torch.testing.assert_close(directions.norm(dim=-1), torch.ones(40))
    assert off_diagonal(crowded).square().mean() < 0.6 * off_diagonal(free).square().mean()


def off_diagonal(directions: Tensor) -> Tensor:
    return (directions @ directions.T)[~torch.eye(len(directions), dtype=torch.bool)]


def test_a_group_shares_a_part_and_fires_together() -> None:
    world = model(64, group_size=2, overlap=0.3, co_firing=0.8, zipf_exponent=0.0)
    cosines = world.directions @ world.directions.T
    group = torch.arange(40) // 2
    together = (group[:, None] == group) & ~torch.eye(40, dtype=torch.bool)
    torch.testing.assert_close(cosines[together], torch.full((40,), 0.3), atol=1e-5, rtol=0)
    apart = group[:, None] != group
    torch.testing.assert_close(cosines[apart], torch.zeros(40 * 38), atol=1e-5, rtol=0)
    firing = (coefficients(world) != 0).double()
    correlation = torch.corrcoef(firing.T)
    assert float(correlation[together].min()) > 0.4
    assert float(correlation[apart].abs().max()) < 0.03
    assert float(firing.mean()) == pytest.approx(5 / 40, rel=0.01)  # the margins stay


# Purity


def test_a_sample_is_a_function_of_its_arguments_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = model().sample(100, "train", seed=3, index=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = model().sample(100, "train", seed=3, index=7)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    others = [("held_out", 3, 7), ("train", 4, 7), ("train", 3, 8)]
    for part, seed, index in others:
        other = model().sample(100, part, seed=seed, index=index)
        assert not torch.equal(other.coefficients, first.coefficients)
    assert not torch.equal(model(seed=1).directions, model().directions)


def test_directions_do_not_depend_on_gradients_being_on() -> None:
    expected = model(20).directions
    with torch.inference_mode():
        assert torch.equal(model(20).directions, expected)


def stream() -> ActivationStream:
    training = TrainingSpec(tokens=100_000, batch_size=512, buffer_tokens=6 * 512)
    return ActivationStream(model(), "activations", DataSpec(), training, context=128)


def take(batches: Iterator[Tensor], n: int) -> list[Tensor]:
    return [batch.clone() for batch in islice(batches, n)]


@pytest.mark.parametrize("start", [0, 5, 6, 13])
def test_a_stream_restarts_at_any_batch_bit_for_bit(start: int) -> None:
    whole = stream()
    take(whole.batches(), start or 1)
    again = stream()
    again.statistics = whole.statistics
    resumed = take(again.batches(start, block_start=whole.start_of(start)), 3)
    expected = take(stream().batches(), start + 3)[start:]
    assert all(torch.equal(a, b) for a, b in zip(resumed, expected, strict=True))


# Descriptions


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"l0": 30}, "fire with probability"),
        ({"positive": [0.5, 1.0]}, "positive has 2 values, but there are 40 features"),
        ({"positive": [0.5] * 40}, "give either two_sided or a list in positive"),
        ({"positive": 1.5}, "synthetic.positive must be at most 1 (got 1.5)"),
        ({"names": ["a"]}, "names has 1 values, but there are 40 features"),
        ({"overlap": 1.0}, "must be below 1"),
        ({"two_sidde": 1.0}, "unknown key 'synthetic.two_sidde'; did you mean 'two_sided'?"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    assert sentence in mistake(tmp_path, SPEC.model_dump(exclude_unset=True) | changes)


def test_a_model_is_either_synthetic_or_has_weights(tmp_path: Path) -> None:
    assert "must be given together" in mistake(tmp_path, None)
    assert "n_layers must be 1" in mistake(tmp_path, SPEC.model_dump(exclude_unset=True), n_layers=2)


def mistake(folder: Path, synthetic: dict[str, object] | None, n_layers: int = 1) -> str:
    with pytest.raises(UserError) as caught:
        find_model(str(world_file(folder, synthetic, n_layers)))
    assert "world.yaml" in str(caught.value)
    return str(caught.value)


def world_file(folder: Path, synthetic: dict[str, object] | None, n_layers: int = 1) -> Path:
    import json

    file = folder / "world.yaml"
    content = {
        "title": "W",
        "weights": "synthetic",
        "n_layers": n_layers,
        "d_model": 48,
        "layers": [0],
        "k": [5],
        "preset": "tiny",
        "synthetic": synthetic,
    }
    file.write_text(json.dumps(content))  # JSON is YAML
    return file


def test_a_model_can_be_a_file_of_the_user_s_own(tmp_path: Path) -> None:
    file = world_file(tmp_path, SPEC.model_dump(exclude_unset=True))
    name, config = find_model(str(file))
    assert (name, config.synthetic) == ("world", SPEC)
    assert load_run(None, {"model": str(file)}).training.learning_rate == 1e-3  # from its preset
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        find_model("nowhere.yaml")


@pytest.mark.parametrize("name", [n for n in config_names("models") if n.startswith("synthetic")])
def test_shipped_worlds_can_be_built(name: str) -> None:
    config = model_config(name)
    assert config.synthetic is not None
    world = SyntheticModel(config.synthetic, config.d_model, name=name)
    assert world.sample(10, "held_out", seed=0, index=0).activations.shape == (10, config.d_model)


def test_the_description_is_the_identity() -> None:
    config = model_config("synthetic")
    commit = fetched_commit(config)
    assert commit == local_commit(config)
    assert len(commit) == 40
    assert config.synthetic is not None
    other = ModelConfig(**{**dict(config), "synthetic": config.synthetic.model_copy(update={"noise": 0.03})})
    assert fetched_commit(other) != commit
