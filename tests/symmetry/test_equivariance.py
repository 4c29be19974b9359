"""The equivariance error tells which operations a model respects."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import pyg_relaxed as pr


@pytest.mark.parametrize("pool", [None, "mean"])
def test_a_projected_network_respects_its_group_and_no_more(float64, pool):
    net = pr.models.RelaxedE3NN(
        "2x0e+1o", "0e+1e+2o", "4x0e+4x0o+4x1o+4x1e+4x2e+4x2o", 3, num_layers=2, irreps_global="1e", pool=pool
    )
    for theta in pr.thetas(net).values():
        theta.set_(torch.randn(theta.irreps_theta.dim))
    pr.project_(net, "4mm")
    pairs = torch.tensor([[0, 1, 2, 3, 4, 2], [1, 2, 3, 4, 0, 0]])
    data = Data(x=torch.randn(5, 5), pos=torch.randn(5, 3), edge_index=pairs, u=torch.randn(1, 3))
    before = data.clone()
    parent, kept = pr.symmetry.point_group("m-3m"), pr.symmetry.point_group("4mm")
    error = pr.symmetry.equivariance_error(net, data, parent)
    respected = np.array([kept.contains(R) for R in parent.operations])
    assert error.shape == (48,)
    assert error[respected].max() < 1e-10
    assert error[~respected].min() > 1e-4
    assert pr.symmetry.equivariance_error(pr.strict_(net), data, parent).max() < 1e-10
    assert all(torch.equal(data[key], before[key]) for key in before.keys())  # noqa: SIM118


def test_outputs_by_name_are_cartesian_tensors(float64):
    model = pr.models.RelaxedDistortion([56, 22, 8], 2, "4x0e+4x1o+4x1e+4x2e", cutoff=4.5)
    for theta in pr.thetas(model).values():
        theta.set_(torch.randn(theta.irreps_theta.dim))
    data = pr.from_ase(pr.structures.load("BaTiO3_R3m"), cutoff=4.5, extras=False)
    operations = pr.symmetry.point_group("m").operations
    broken = pr.symmetry.equivariance_error(model, data, operations)
    assert set(broken) == {"displacement", "strain"}
    assert all(error[0] < 1e-10 < 1e-4 < error[1] for error in broken.values())
    kept = pr.symmetry.equivariance_error(pr.project_(model, "m"), data, operations)
    assert all(error.max() < 1e-10 for error in kept.values())


def test_a_continuous_group_is_refused():
    with pytest.raises(ValueError, match="infinitely many operations"):
        pr.symmetry.equivariance_error(torch.nn.Identity(), Data(), "∞m")
