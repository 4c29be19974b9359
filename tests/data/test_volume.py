import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_relaxed.data import cell_volume

seeds = st.integers(0, 2**32 - 1)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def vectors(seed, lengths):
    cell = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return cell * torch.tensor(lengths, dtype=torch.float64).unsqueeze(1)


@dtypes
@given(seeds, st.tuples(*[st.floats(1e-3, 1e4)] * 2), st.tuples(*[st.sampled_from([-3.0, -0.1, 0.0, 0.7, 1.0])] * 2))
def test_vectors_in_a_plane_span_none(dtype, seed, lengths, factors):
    cell = vectors(seed, (*lengths, 0.0))
    cell[2] = factors[0] * cell[0] + factors[1] * cell[1]
    assert cell_volume(cell.to(dtype)) == 0


@dtypes
@given(seeds, st.tuples(*[st.floats(1e-3, 1e4)] * 3))
def test_it_is_the_determinant_however_small_the_cell(dtype, seed, lengths):
    cell = vectors(seed, lengths).to(dtype)
    box = cell.double().norm(dim=1).prod()
    exact = torch.linalg.det(cell.double()).abs()
    if exact > 1e-4 * box:
        assert cell_volume(cell).double() > 0
        assert (cell_volume(cell).double() - exact).abs() <= 4 * torch.finfo(dtype).eps * box


def test_gradients_are_those_of_the_determinant():
    cell = torch.diag(torch.tensor([1.0, 2.0, 3.0])).requires_grad_()
    cell_volume(cell).backward()
    torch.testing.assert_close(cell.grad, torch.diag(torch.tensor([6.0, 3.0, 2.0])))
