"""The batched probes against sae-bench's own, one at a time, from the same random numbers."""

import pytest
import torch
from abench.tasks._shared.linear_probes import ProbeQuestion, ProbeSettings, seed_of, train_probes
from probe_oracle import probe_training
from torch import Tensor

SETTINGS = ProbeSettings(probe_epochs=6)
TEXTS, D = 90, 12


def data(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * TEXTS, D, generator=generator) + 0.5 * torch.randn(D, generator=generator)


def questions(seed: int, sizes: list[int]) -> list[ProbeQuestion]:
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(2 * TEXTS, generator=generator) for _ in sizes]
    return [
        ProbeQuestion(order[:size], order[size : 2 * size]) for order, size in zip(orders, sizes, strict=True)
    ]


def planted(x: Tensor, asked: list[ProbeQuestion]) -> Tensor:
    """x with something to learn: each question's positive texts moved along a direction of their own."""
    x = x.clone()
    for number, question in enumerate(asked):
        x[question.positive, number] += 1.5
    return x


def theirs(
    x: Tensor, train: ProbeQuestion, test_x: Tensor, test: ProbeQuestion, settings: ProbeSettings, seed: int
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    with torch.enable_grad():
        probe, _ = probe_training.train_probe_gpu(
            x[train.rows],
            train.labels.int(),
            test_x[test.rows],
            test.labels.int(),
            dim=D,
            batch_size=settings.probe_batch_size,
            epochs=settings.probe_epochs,
            lr=settings.probe_lr,
            l1_penalty=settings.probe_l1,
            early_stopping_patience=settings.probe_patience,
        )
    return probe.net.weight.detach()[0], probe.net.bias.detach()[0]


@pytest.mark.parametrize(
    "changes", [{}, {"probe_patience": 1, "probe_epochs": 30, "probe_lr": 0.05}, {"probe_l1": 0.0}]
)
def test_probes_trained_together_are_sae_benchs_trained_alone(changes: dict[str, float]) -> None:
    """Three of one size, one of another; 90 texts are no multiple of the batch of 16."""
    settings = SETTINGS.model_copy(update=changes)
    train, test = questions(1, [45, 45, 30, 45]), questions(2, [40] * 4)
    x, test_x = planted(data(1), train), planted(data(2), test)
    seeds = [seed_of("a test", number) for number in range(4)]
    ours = train_probes(x, train, test_x, test, settings, seeds)
    for number in range(4):
        weight, bias = theirs(x, train[number], test_x, test[number], settings, seeds[number])
        torch.testing.assert_close(ours.weight[number], weight, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(ours.bias[number], bias, atol=1e-5, rtol=1e-4)


def test_of_the_epochs_the_best_on_test_is_kept() -> None:
    """Test labels are turned round, so that the probe is best before it has learned anything."""
    (train,) = questions(1, [60])
    x = planted(data(1), [train])
    turned = ProbeQuestion(train.negative, train.positive)
    settings = SETTINGS.model_copy(update={"probe_lr": 0.05})
    short = settings.model_copy(update={"probe_epochs": 1})
    kept = train_probes(x, [train], x, [turned], settings, [3])
    torch.testing.assert_close(kept.weight, train_probes(x, [train], x, [turned], short, [3]).weight)
    assert train.accuracy(train_probes(x, [train], x, [train], settings, [3]).logits(x)[:, 0]) > 0.7


def test_nothing_is_drawn_from_the_global_random_state() -> None:
    (train,) = questions(1, [60])
    x, before = data(1), torch.get_rng_state()
    first = train_probes(x, [train], x, [train], SETTINGS, [3])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(train_probes(x, [train], x, [train], SETTINGS, [3]).weight, first.weight)
    assert not torch.equal(train_probes(x, [train], x, [train], SETTINGS, [4]).weight, first.weight)


def test_a_contrast_is_the_difference_of_means() -> None:
    (question,) = questions(1, [20])
    x = data(1).double()
    expected = x[question.positive].mean(0) - x[question.negative].mean(0)
    torch.testing.assert_close(question.contrast(len(x)) @ x, expected)
