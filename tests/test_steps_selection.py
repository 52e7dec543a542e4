"""Finding the active entries by group maxima gives what sorting all entries gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from abench.kernels import selection
from abench.kernels.selection import beyond, positive, top_of_batch, top_of_rows

ROWS, WIDTH = 6, 256


@pytest.fixture(params=[False, True], ids=["groups", "all entries"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By groups, and by passes over all entries, as on a GPU."""
    monkeypatch.setattr(selection, "_flat_is_faster", lambda _: request.param)


def random(seed: int, rows: int = ROWS, width: int = WIDTH) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def adversarial() -> dict[str, Tensor]:
    """Where bounds by groups could go wrong."""
    crowded = torch.zeros(ROWS, WIDTH)
    crowded[:, :32] = random(1)[:, :32].abs() + 1  # all that is large in one group
    one_row = random(2) * 1e-3
    one_row[3] += 10  # a batch's largest entries all in one row
    steep = torch.logspace(-38, 38, ROWS * WIDTH).view(ROWS, WIDTH)
    close = 1 + torch.arange(ROWS * WIDTH).view(ROWS, WIDTH) * 2**-23  # neighbouring floats
    return {
        "random": random(0),
        "negative": -random(0).abs(),
        "zero": torch.zeros(ROWS, WIDTH),
        "equal": torch.ones(ROWS, WIDTH),
        "coarse": (random(3) * 2).round(),
        "crowded": crowded,
        "one row": one_row,
        "steep": steep,
        "close": close.flip(1),
        "tiny": random(4) * 1e-42,
        "infinite": random(5).clamp_min(-1).masked_fill(random(6) > 2, torch.inf),
        "odd width": random(7, ROWS, 51),
    }


def assert_rows_are_largest(u: Tensor, k: int, signed: bool) -> None:
    columns = top_of_rows(u.clone(), k, signed=signed)
    size = u.abs() if signed else u
    assert columns.shape == (len(u), k)
    assert all(len(set(row)) == k for row in columns.tolist())
    found = size.gather(1, columns).sort(dim=1).values
    assert torch.equal(found, size.topk(k, dim=1).values.sort(dim=1).values)


def assert_batch_is_largest(u: Tensor, count: int, signed: bool) -> None:
    at = top_of_batch(u.clone(), count, signed=signed)
    size = (u.abs() if signed else u).flatten()
    expected = size.topk(count).values
    expected = expected[expected > 0]
    assert at.tolist() == sorted(set(at.tolist()))
    assert torch.equal(size[at].sort().values, expected.sort().values)


@pytest.mark.parametrize("case", adversarial())
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("k", [1, 4, 8, 50])
def test_of_rows(case: str, signed: bool, k: int) -> None:
    assert_rows_are_largest(adversarial()[case], k, signed)


@pytest.mark.parametrize("case", adversarial())
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("k", [1, 4, 8, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_a_batch(case: str, signed: bool, k: int, dtype: torch.dtype) -> None:
    assert_batch_is_largest(adversarial()[case].to(dtype), k * ROWS, signed)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    k=st.integers(1, 40),
    rows=st.integers(1, 9),
    width=st.sampled_from([64, 96, 256, 41]),
    levels=st.sampled_from([None, 1.0, 4.0]),
    shift=st.sampled_from([0.0, -2.0, 100.0]),
    signed=st.booleans(),
)
def test_of_any_batch(
    seed: int, k: int, rows: int, width: int, levels: float | None, shift: float, signed: bool
) -> None:
    u = random(seed, rows, width) + shift
    if levels is not None:
        u = (u * levels).round() / levels  # many ties
    assert_rows_are_largest(u, k, signed)
    assert_batch_is_largest(u, k * rows, signed)


def test_of_equal_entries_at_the_border_a_batch_keeps_the_first() -> None:
    u = torch.ones(4, 64)
    u[2, 5] = 2.0
    assert top_of_batch(u, 5, signed=False).tolist() == [0, 1, 2, 3, 2 * 64 + 5]


@pytest.mark.parametrize("width", [64, 41])
@pytest.mark.parametrize("shift", [-5.0, -2.0, 0.0, 5.0])
def test_positive_entries_unless_there_are_too_many(width: int, shift: float) -> None:
    u = random(0, 20, width) + shift
    expected = (u.flatten() > 0).nonzero().squeeze(1)
    found = positive(u, 1 / 16)
    if len(expected) <= u.numel() / 16:
        assert found is not None
        assert torch.equal(found, expected)
    else:
        assert found is None


@pytest.mark.parametrize("case", adversarial())
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("floor", [0.0, 0.5, 2.5, 1e9])
def test_of_all_beyond_a_floor(case: str, signed: bool, floor: float) -> None:
    u = adversarial()[case]
    found = beyond(u.clone(), floor, signed=signed)
    assert torch.equal(found, ((u.abs() if signed else u).flatten() > floor).nonzero().squeeze(1))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_selected_and_so_noticed(value: float) -> None:
    u = random(0)
    u[1, 7] = value
    assert 7 in top_of_rows(u, 4, signed=False)[1].tolist()
    assert WIDTH + 7 in top_of_batch(u, 24, signed=True).tolist()
    found = positive(u - 3, 1 / 16)
    assert found is not None
    assert WIDTH + 7 in found.tolist()
