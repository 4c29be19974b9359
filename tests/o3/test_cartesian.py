from itertools import permutations

import pytest
import torch
from e3nn import io

from pyg_relaxed.compat import o3
from pyg_relaxed.o3 import CartesianTensor

IRREPS = {
    "i": "1o",
    "ij": "0e+1e+2e",
    "ij=ji": "0e+2e",
    "ijk=ikj": "2x1o+2o+3o",
    "ijkl=jikl=klij": "2x0e+2x2e+4e",
}


@pytest.fixture(params=IRREPS)
def tensor(request):
    return CartesianTensor(request.param).double()


def random_tensor(tensor):
    return tensor.from_irreps(torch.randn(5, tensor.irreps.dim, dtype=torch.float64))


def test_irreps(tensor):
    assert tensor.irreps.simplify() == o3.Irreps(IRREPS[tensor.formula])


def test_there_and_back_without_loss(tensor):
    full = random_tensor(tensor)
    x = tensor.to_irreps(full)
    torch.testing.assert_close(tensor.from_irreps(x), full, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(x.norm(dim=1), full.flatten(1).norm(dim=1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("improper", [False, True])
def test_components_turn_as_the_irreps_say(float64, tensor, improper):
    full, R = random_tensor(tensor), o3.rand_matrix() * (-1 if improper else 1)
    turned = full
    for axis in range(1, tensor.rank + 1):
        turned = torch.tensordot(turned, R, dims=([axis], [1])).movedim(-1, axis)
    expected = tensor.to_irreps(full) @ tensor.irreps.D_from_matrix(R).T
    torch.testing.assert_close(tensor.to_irreps(turned), expected, rtol=1e-10, atol=1e-10)


def test_the_part_without_the_symmetry_is_left_out():
    stress = torch.randn(3, 3, dtype=torch.float64)
    symmetric = CartesianTensor("ij=ji").double()
    torch.testing.assert_close(symmetric.from_irreps(symmetric.to_irreps(stress)), (stress + stress.T) / 2)
    elastic = CartesianTensor("ijkl=jikl=klij").double()
    full = elastic.from_irreps(torch.randn(21, dtype=torch.float64))
    for order in permutations(range(4)):
        same = sorted([sorted(order[:2]), sorted(order[2:])]) == [[0, 1], [2, 3]]
        assert torch.allclose(full.permute(order), full) == same


def test_as_e3nn():
    ours, theirs = CartesianTensor("ij=ji"), io.CartesianTensor("ij=ji")
    stress = torch.randn(4, 3, 3)
    torch.testing.assert_close(ours.to_irreps(stress), theirs.from_cartesian(stress), rtol=1e-5, atol=1e-5)


def test_constants_are_exact_in_float64():
    basis = CartesianTensor("ijk=ikj").double().change_of_basis.flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(18, dtype=torch.float64), rtol=0, atol=1e-13)


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match="'formula' must be such as 'ij=ji'"):
        CartesianTensor("i=1")
    with pytest.raises(ValueError, match="must end with 2 dimensions of 3"):
        CartesianTensor("ij").to_irreps(torch.zeros(3))
    with pytest.raises(ValueError, match="last dimension 9"):
        CartesianTensor("ij").from_irreps(torch.zeros(6))
