import copy

import pytest
import torch
from ase.build import bulk
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

import pyg_relaxed as pr
from pyg_relaxed.data import edge_vectors
from pyg_relaxed.transforms import PositionNoise, RandomRotation, Symmetrize, unsymmetrize

SCALARS = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def data(float64):
    return PositionNoise(0.1)(pr.from_ase(pr.structures.load("BaTiO3_P4mm"), cutoff=4.5))


class Convolution(torch.nn.Module):
    """Scalars to scalars, vectors and an axial tensor, by one relaxed layer."""

    def __init__(self):
        super().__init__()
        self.conv = pr.nn.RelaxedConv("4x0e", "2x0e+1o+2e+1e", "0e+1o+2e", "0e+1o+1e+2e", cutoff=4.5)

    def forward(self, data):
        return self.conv(SCALARS.repeat(len(data.pos) // 5, 1), data.edge_index, edge_vectors(data))


@pytest.fixture
def broken(float64):
    model = Convolution()
    model.conv.theta.set_(torch.randn(12))
    return model


@pytest.mark.parametrize("improper", [False, True])
def test_the_model_turns_along(data, broken, improper):
    """f_{D(R) theta}(R x) = D(R) f_theta(x), exactly."""
    rotation = RandomRotation(broken, improper=improper, generator=torch.Generator().manual_seed(3))
    before = broken(data)
    for _ in range(4):
        with rotation.applied(data) as turned:
            found = broken(turned)
        D = pr.o3.representation("2x0e+1o+2e+1e", turned.info_rotation[0])
        torch.testing.assert_close(found, before @ D.T, rtol=1e-10, atol=1e-10)
        assert not torch.allclose(broken(turned), found)  # negative control: it has turned back


def test_leaving_returns_theta_bit_for_bit(data, broken):
    broken.conv.theta.project_("4mm")
    own = copy.deepcopy(broken.state_dict())
    with RandomRotation(broken).applied(data):
        assert not torch.equal(broken.state_dict()["conv.theta.weight"], own["conv.theta.weight"])
    assert all(torch.equal(value, own[name]) for name, value in broken.state_dict().items())


def test_leaving_by_an_error_turns_back_too(data, broken):
    own = broken.conv.theta()
    with pytest.raises(RuntimeError), RandomRotation(broken).applied(data):
        raise RuntimeError
    assert torch.equal(broken.conv.theta(), own)


def test_what_changed_inside_turns_back(data, broken):
    own = broken.conv.theta()
    with RandomRotation(broken).applied(data), torch.no_grad():
        broken.conv.theta.weight.mul_(2)
    torch.testing.assert_close(broken.conv.theta(), 2 * own)


def test_gradients_of_theta_are_those_without_rotation(data, broken):
    (broken(data) ** 2).sum().backward()
    expected = broken.conv.theta.weight.grad.clone()
    with RandomRotation(broken).applied(data) as turned:
        (broken(turned) ** 2).sum().backward()  # the same loss again, added to the gradient that was there
    torch.testing.assert_close(broken.conv.theta.weight.grad, 2 * expected)


def test_a_gradient_taken_after_leaving_is_an_error_not_a_wrong_number(data, broken):
    with RandomRotation(broken).applied(data) as turned:
        loss = (broken(turned) ** 2).sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_model_that_breaks_symmetry_is_refused_unless_it_turns_along(data, broken):
    with pytest.raises(ValueError, match=r"breaks symmetry \(theta in 1e, 1o, 2e\).*rotation\.applied\(data\)"):
        RandomRotation(broken)(data)
    strict = pr.strict_(broken)
    assert RandomRotation(strict)(data).info_rotation.shape == (1, 3, 3)
    with pytest.raises(ValueError, match="there is no model to turn along"), RandomRotation().applied(data):
        pass


def test_a_copy_of_the_model_in_a_worker_is_refused(data, broken):
    rotation = RandomRotation(pr.strict_(broken))

    class Turned(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, i):
            return rotation(data)

    assert len(list(DataLoader(Turned(), num_workers=0))) == 1
    with pytest.raises(ValueError, match="is a copy in a worker of a DataLoader"):
        list(DataLoader(Turned(), num_workers=1))


def test_a_batch_turns_as_a_whole(data):
    data.forces, data.stress = torch.randn(5, 3), torch.randn(1, 3, 3)
    batch = RandomRotation()(Batch.from_data_list([data, data]))
    assert torch.equal(*batch.info_rotation)
    R = batch.info_rotation[0]
    for graph in batch.to_data_list():
        torch.testing.assert_close(graph.forces, data.forces @ R.T)
        torch.testing.assert_close(graph.stress, R @ data.stress @ R.T)
        torch.testing.assert_close(edge_vectors(graph), edge_vectors(data) @ R.T)


def test_a_batch_through_a_model(data, broken):
    batch = Batch.from_data_list([data, data])
    with RandomRotation(broken).applied(batch) as turned:
        D = pr.o3.representation("2x0e+1o+2e+1e", turned.info_rotation[0])
        found = broken(turned)
    torch.testing.assert_close(found, broken(batch) @ D.T, rtol=1e-10, atol=1e-10)


def test_two_rotations_are_their_product(data):
    twice = RandomRotation()(RandomRotation()(data))
    torch.testing.assert_close(twice.pos, data.pos @ twice.info_rotation[0].T)


def test_what_other_transforms_left_turns_along(data):
    turned = RandomRotation()(data)
    torch.testing.assert_close(turned.pos - turned.site_noise, (data.pos - data.site_noise) @ turned.info_rotation[0].T)
    symmetric = RandomRotation()(Symmetrize(0.3)(data))
    restored = unsymmetrize(symmetric)
    torch.testing.assert_close(restored.pos, data.pos @ symmetric.info_rotation[0].T)
    torch.testing.assert_close(restored.cell, data.cell @ symmetric.info_rotation[0].T)


def test_elements_are_uniform_in_the_group():
    """The means of R and of det R vanish, those of the entries squared are 1/3."""
    generator = torch.Generator().manual_seed(0)
    point = Data(pos=torch.zeros(1, 3, dtype=torch.float64))
    for improper in (True, False):
        rotation = RandomRotation(improper=improper, generator=generator)
        R = torch.cat([rotation(point).info_rotation for _ in range(3000)])
        torch.testing.assert_close(R @ R.mT, torch.eye(3).double().expand_as(R))
        assert R.mean(dim=0).abs().max() < 0.05
        assert (R**2).mean(dim=0).sub(1 / 3).abs().max() < 0.03
        assert torch.linalg.det(R).mean().item() == pytest.approx(0.0 if improper else 1.0, abs=0.06)


def test_it_says_what_it_is():
    layer = pr.nn.RelaxedLinear("1o", "1o", None)
    assert repr(RandomRotation()) == "RandomRotation(improper=True)"
    assert repr(RandomRotation(layer, improper=False)) == "RandomRotation(model=RelaxedLinear, improper=False)"


def test_the_input_is_left_alone():
    data = pr.from_ase(bulk("Cu"), cutoff=3.0)
    before = copy.deepcopy(data.to_dict())
    RandomRotation()(data)
    assert "info_rotation" not in data
    assert torch.equal(data.cell, before["cell"])
