"""Theta of any module tree."""

import pytest
import torch
from scipy.spatial.transform import Rotation

import pyg_relaxed as pr

pytestmark = pytest.mark.usefixtures("float64")


class Tree(torch.nn.Module):
    """Layers of ours somewhere in a model of somebody else's, one theta used twice."""

    def __init__(self):
        super().__init__()
        shared = pr.RelaxedWeights("0e+1o+2e")
        self.plain = torch.nn.Linear(2, 2)
        self.blocks = torch.nn.ModuleList([pr.nn.RelaxedLinear("1o", "1o", shared) for _ in range(2)])
        self.inner = torch.nn.Sequential(torch.nn.Identity(), pr.nn.RelaxedLinear("1o", "1o", "0e+1e"))
        for theta in pr.thetas(self).values():
            theta.set_(torch.randn(theta.irreps_theta.dim))


def test_thetas_are_found_and_shared_ones_counted_once():
    model = Tree()
    assert list(pr.thetas(model)) == ["blocks.0.theta", "inner.1.theta"]
    assert model.blocks[0].theta is model.blocks[1].theta
    assert pr.thetas(torch.nn.Linear(1, 1)) == {}


def test_building_a_layer_with_a_theta_leaves_it_as_it_is():
    theta = pr.RelaxedWeights("0e+1o").set_(torch.tensor([1.0, 2.0, 3.0, 4.0])).freeze("1o")
    for layer in (pr.nn.RelaxedLinear("1o", "1o", theta), pr.nn.RelaxedConv("1o", "1o", "0e+1o", theta)):
        assert layer.theta is theta
        assert theta().tolist() == [1.0, 2.0, 3.0, 4.0]
        assert theta.free.diagonal().tolist() == [1.0, 0.0, 0.0, 0.0]
    layer.reset_parameters()
    assert theta().tolist() == [1.0, 0.0, 0.0, 0.0]


def test_rotation_project_and_strict_reach_every_theta():
    model = Tree()
    values = {name: theta().detach().clone() for name, theta in pr.thetas(model).items()}
    R = torch.as_tensor(Rotation.random(random_state=0).as_matrix())
    assert pr.rotate_(model, R) is model
    for name, theta in pr.thetas(model).items():
        torch.testing.assert_close(theta(), pr.o3.representation(theta.irreps_theta, R) @ values[name])
    assert pr.project_(pr.rotate_(model, R.T), "4mm") is model
    for name, theta in pr.thetas(model).items():
        torch.testing.assert_close(theta(), pr.o3.projector("4mm", theta.irreps_theta) @ values[name])
    assert pr.strict_(model) is model
    for theta in pr.thetas(model).values():
        assert all(norm == 0 for ir, norm in theta.norms().items() if ir != "0e")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: pr.project_(model, "4nm"), "Did you mean 4mm"),
        (lambda model: pr.rotate_(model, torch.ones(3, 3)), "must be orthogonal"),
    ],
)
def test_bad_input_changes_nothing(call, message):
    model = Tree()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        call(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_half_a_projection_is_none():
    """One theta of several that refuses keeps the others from being projected."""
    model = Tree()
    R = Rotation.from_euler("x", 40, degrees=True).as_matrix()
    model.inner[1].theta.project_(pr.symmetry.point_group("m").conjugate(R))
    before = model.blocks[0].theta().clone()
    with pytest.raises(ValueError, match="does not commute"):
        pr.project_(model, "4")
    assert torch.equal(model.blocks[0].theta(), before)
