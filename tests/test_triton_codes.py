"""The GPU's kernel sums what the CPU's sparse products sum: on a GPU, or else interpreted (conftest.py)."""

import pytest
import torch

pytest.importorskip("triton", reason="triton is installed with the GPU builds of torch and with abench[test]")

from abench.kernels.sparse_codes import SparseCodes
from abench.kernels.triton_codes import TritonCodes

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOKENS, WIDTH, D = 13, 40, 21


def both(dtype: torch.dtype, ragged: bool) -> tuple[SparseCodes, SparseCodes]:
    """The same codes for the CPU and for the kernel; ragged ones have tokens and latents without entries."""
    u = torch.randn(TOKENS, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(0))
    if not ragged:
        columns = u.topk(9).indices
        return SparseCodes.in_columns(u, columns), TritonCodes.in_columns(u.to(DEVICE), columns.to(DEVICE))
    u[3], u[:, 7], u[:, 8] = -9, -9, 9  # latent 8 is active for nearly all tokens
    at = (u > 0.8).view(-1).nonzero().squeeze(1)
    return SparseCodes.at(u, at), TritonCodes.at(u.to(DEVICE), at.to(DEVICE))


@pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")  # Triton's interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("ragged", [False, True])
def test_sums_are_those_of_the_cpu(dtype: torch.dtype, ragged: bool) -> None:
    ours, kernel = both(dtype, ragged)
    generator = torch.Generator().manual_seed(1)
    weight, rows = (torch.randn(n, D, dtype=dtype, generator=generator) for n in (WIDTH, TOKENS))
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    decoded = kernel.decode(kernel.values, weight.to(DEVICE))
    torch.testing.assert_close(decoded.cpu(), ours.decode(ours.values, weight), **near)
    torch.testing.assert_close(kernel.sum(kernel.values).cpu(), ours.sum(ours.values), **near)
    for first in (True, False):
        found, expected = torch.ones(WIDTH, D, dtype=dtype, device=DEVICE), torch.ones(WIDTH, D, dtype=dtype)
        kernel.add_outer(kernel.values, rows.to(DEVICE), found, first=first)
        ours.add_outer(ours.values, rows, expected, first=first)
        torch.testing.assert_close(found.cpu(), expected, **near)
        found, expected = found.T.contiguous(), expected.T.contiguous()
        kernel.add_inner(rows.to(DEVICE), kernel.values, found, first=first)
        ours.add_inner(rows, ours.values, expected, first=first)
        torch.testing.assert_close(found.cpu(), expected, **near)
