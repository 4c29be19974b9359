import pytest
import torch

from pyg_relaxed.o3.grouped import matmul


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 9, 9), (6, 9, 9), (7, 9, 9), (8, 4, 9), (10, 16, 16)], ids=str)
@pytest.mark.parametrize("is_contiguous", [True, False])
def test_products_of_short_rows_and_their_derivatives(dtype, shape, is_contiguous):
    N, K, L = shape
    rows = torch.randn(N, K, dtype=dtype) if is_contiguous else torch.randn(K, N, dtype=dtype).T
    inputs = rows.requires_grad_(), torch.randn(K, L, dtype=dtype, requires_grad=True)
    gradient = torch.randn(N, L, dtype=dtype)
    found, expected = matmul(*inputs), inputs[0] @ inputs[1]
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(torch.autograd.grad(y, inputs, gradient) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)
