"""Theta: where it starts, how it turns, what holds it."""

import pytest
import torch
from scipy.spatial.transform import Rotation

import pyg_relaxed as pr
from pyg_relaxed.compat import o3 as e3nn_o3
from pyg_relaxed.o3 import projector, representation

pytestmark = pytest.mark.usefixtures("float64")
IRREPS = "2x0e+0o+2x1o+1e+2e"


def weights(irreps=IRREPS):
    theta = pr.RelaxedWeights(irreps)
    return theta.set_(torch.randn(theta.irreps_theta.dim))


@pytest.mark.parametrize(
    ("argument", "irreps"),
    [(0, "0e+0o"), (2, "0e+0o+1o+1e+2e+2o"), ("0e+2x1o", "0e+2x1o"), (e3nn_o3.Irreps("3x0e"), "3x0e")],
)
def test_irreps_and_starting_point(argument, irreps):
    theta = pr.RelaxedWeights(argument)
    assert theta.irreps_theta == e3nn_o3.Irreps(irreps)
    expected = torch.cat([torch.full((mul * ir.dim,), float(str(ir) == "0e")) for mul, ir in theta.irreps_theta])
    assert torch.equal(theta(), expected)
    assert str(theta) == f"RelaxedWeights({theta.irreps_theta})"


@pytest.mark.parametrize("argument", [-1, True, 2.5, "1o+2e", "0x0e+1o", "2q", None])
def test_what_is_no_theta_is_explained(argument):
    with pytest.raises(ValueError, match="'irreps_theta'"):
        pr.RelaxedWeights(argument)


def test_norms_take_multiplicities_together():
    theta = pr.RelaxedWeights("0e+1o+0e+1o")
    theta.set_(torch.tensor([3.0, 0, 0, 1, 4, 2, 0, 2]))
    assert theta.norms() == {"0e": 5.0, "1o": 3.0}


@pytest.mark.parametrize("sign", [1, -1])
def test_rotation(sign):
    theta = weights()
    before, norms = theta().detach().clone(), theta.norms()
    R = sign * torch.as_tensor(Rotation.random(random_state=1).as_matrix())
    assert theta.rotate_(R) is theta
    torch.testing.assert_close(theta(), representation(IRREPS, R) @ before)
    assert theta.norms() == pytest.approx(norms)
    torch.testing.assert_close(theta.rotate_(R.T)(), before)


@pytest.mark.parametrize("group", ["4mm", "mm2", "-43m", "∞m", "∞∞"])
def test_projection_is_exact_and_stays(group):
    theta = weights()
    P = projector(group, IRREPS)
    expected = P @ theta()
    torch.testing.assert_close(theta.project_(group)(), expected)
    theta.weight.data += torch.randn_like(theta.weight)  # whatever an optimiser does
    torch.testing.assert_close(P @ theta(), theta())
    # The part that is held still has a gradient: an equivariant optimiser needs its scale.
    theta().sum().backward()
    torch.testing.assert_close(theta.weight.grad, torch.ones_like(theta.weight))


def test_projections_that_do_not_commute_are_refused_and_change_nothing():
    theta = weights("0e+1o+2e").project_("4mm")
    before = theta().clone()
    R = Rotation.from_euler("y", 40, degrees=True).as_matrix()
    with pytest.raises(ValueError, match=r"unfreeze\(\) first"):
        theta.project_(pr.symmetry.point_group("4mm").conjugate(R))
    assert torch.equal(theta(), before)
    theta.project_("m-3m").project_("2")  # these do commute
    torch.testing.assert_close(theta(), projector("m-3m", "0e+1o+2e") @ before)


def test_freezing_and_unfreezing():
    theta = weights("0e+1o+2e").freeze("1o")
    before = theta().detach().clone()
    theta.weight.data += 1
    torch.testing.assert_close(theta() - before, torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 1, 1]))
    value = theta().detach().clone()
    torch.testing.assert_close(theta.unfreeze()(), value)
    theta.weight.data += 1
    torch.testing.assert_close(theta(), value + 1)
    with pytest.raises(ValueError, match="not 3o"):
        theta.freeze(["1o", "3o"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_projected_theta_still_shrinks_to_exact_zeros(dtype):
    theta = weights("0e+1o+2e+3o+4e").to(dtype).project_("3m")
    pr.optim.soft_threshold_(theta, 100.0)
    assert all(norm == 0 for ir, norm in theta.norms().items() if ir != "0e")


def test_freezing_keeps_a_restriction_in_force():
    both = torch.zeros(11)
    both[[1, 5]] = 0.5**0.5  # 1o and 3o move together
    theta = weights("0e+1o+3o").restrict_(torch.outer(both, both))
    try:
        theta.freeze("1o")
    except ValueError:
        return
    theta.weight.data += 1
    torch.testing.assert_close(torch.outer(both, both) @ theta(), theta())


def test_what_holds_theta_travels_with_it():
    theta = weights().freeze("2e")
    again = pr.RelaxedWeights(IRREPS)
    again.load_state_dict(theta.state_dict())
    again.weight.data += 1
    theta.weight.data += 1
    assert torch.equal(again(), theta())
    R = torch.as_tensor(Rotation.random(random_state=2).as_matrix())
    turned = theta.project_("4mm").rotate_(R)
    turned.weight.data += torch.randn_like(turned.weight)
    P = projector(pr.symmetry.point_group("4mm").conjugate(R.numpy()), IRREPS)
    torch.testing.assert_close(P @ turned(), turned())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda theta: theta.set_(torch.zeros(3)), "'theta' must have shape"),
        (lambda theta: theta.set_(torch.full((4,), torch.nan)), "'theta' must be finite"),
        (lambda theta: theta.rotate_(torch.eye(2)), "'R' must have shape"),
        (lambda theta: theta.rotate_(2 * torch.eye(3)), "'R' must be orthogonal"),
        (lambda theta: theta.rotate_(torch.full((3, 3), torch.nan)), "'R' must be orthogonal"),
        (lambda theta: theta.project_("5mm"), "unknown point group '5mm'. Did you mean"),
        (lambda theta: theta.project_(2 * torch.eye(3)[None].numpy()), "'R' must be orthogonal"),
        (lambda theta: theta.project_(-torch.eye(3)[None].numpy()), "not a group"),
        (lambda theta: theta.restrict_(torch.eye(3)), "must be an orthogonal projector"),
        (lambda theta: theta.restrict_(2 * torch.eye(4)), "must be an orthogonal projector"),
    ],
)
def test_bad_input_is_explained_and_changes_nothing(call, message):
    theta = weights("0e+1o")
    before = theta().clone()
    with pytest.raises(ValueError, match=message):
        call(theta)
    assert torch.equal(theta(), before)
