import copy

import pytest
import torch
from torch_geometric.data import Batch, Data

import pyg_relaxed as pr
from pyg_relaxed.compat import o3

THETA = "0e+0o+1o+1e+2e"


def crystal(R=None):
    atoms = pr.structures.load("BaTiO3_P4mm")
    if R is not None:
        atoms.set_cell(atoms.cell.array @ R.T)
        atoms.positions = atoms.positions @ R.T
    return pr.from_ase(atoms, cutoff=4.5, extras=False)


@pytest.mark.parametrize("improper", [False, True])
def test_frame_identity_of_the_network(float64, improper):
    net = pr.models.RelaxedE3NN("2x0e+1o", "0e+1e+2e", "4x0e+4x0o+4x1o+4x1e+4x2e", THETA, num_layers=2, cutoff=2.0)
    for theta in pr.thetas(net).values():
        theta.set_(torch.randn(theta.irreps_theta.dim))
    x, pos = net.irreps_in.randn(5, -1), torch.randn(5, 3)
    edge_index = torch.tensor([[0, 1, 2, 3, 4, 2], [1, 2, 3, 4, 0, 0]])
    R = o3.rand_matrix() * (-1 if improper else 1)
    out = net(Data(x=x, pos=pos, edge_index=edge_index))
    turned = Data(x=x @ net.irreps_in.D_from_matrix(R).T, pos=pos @ R.T, edge_index=edge_index)
    expected = out @ net.irreps_out.D_from_matrix(R).T
    assert (net(turned) - expected).abs().max() > 1e-6 * expected.abs().max()
    torch.testing.assert_close(pr.rotate_(copy.deepcopy(net), R)(turned), expected, rtol=1e-10, atol=1e-10)

    strict = pr.strict_(copy.deepcopy(net))
    out = strict(Data(x=x, pos=pos, edge_index=edge_index)) @ net.irreps_out.D_from_matrix(R).T
    torch.testing.assert_close(strict(turned), out, rtol=1e-10, atol=1e-10)


def test_frame_identity_of_a_distortion(float64):
    model = pr.models.RelaxedDistortion([56, 22, 8], THETA, "4x0e+4x1o+4x1e+4x2e", cutoff=4.5)
    for theta in pr.thetas(model).values():
        theta.set_(torch.randn(theta.irreps_theta.dim))
    R = o3.rand_matrix()
    out, turned = model(crystal()), pr.rotate_(copy.deepcopy(model), R)(crystal(R.numpy()))
    torch.testing.assert_close(turned["displacement"], out["displacement"] @ R.T, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(turned["strain"], R @ out["strain"] @ R.T, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(out["strain"], out["strain"].mT)
    assert out["displacement"].sum(0).abs().max() < 1e-12


def test_batch_equals_single_graphs(float64):
    net = pr.models.RelaxedE3NN("0e", "1o", "4x0e+4x1o", "0e+1o", irreps_global="1o", pool="mean", num_layers=1)
    graphs = []
    for n in (2, 3):
        index = torch.tensor([[0, 1], [1, 0]])
        graphs.append(Data(x=torch.randn(n, 1), pos=torch.randn(n, 3), edge_index=index, u=torch.randn(1, 3)))
    single = torch.cat([net(graph) for graph in graphs])
    torch.testing.assert_close(net(Batch.from_data_list(graphs)), single)


def test_autocast_leaves_the_network_its_precision():
    net = pr.models.RelaxedE3NN("2x0e", "0e+1o", "4x0e+4x1o", "0e+1o", cutoff=2.0)
    graph = Data(x=torch.randn(3, 2), pos=torch.randn(3, 3), edge_index=torch.tensor([[0, 1, 2], [1, 2, 0]]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net(graph)
    assert found.equal(net(graph))


def test_file_round_trip(float64, tmp_path):
    model = pr.models.RelaxedDistortion([56, 22, 8], THETA, "4x0e+4x1o", cutoff=4.5)
    pr.project_(model, "4mm")
    pr.save(model, tmp_path / "model.safetensors", provenance={"why": "test"})
    torch.set_default_dtype(torch.float32)  # the reader's default must not round the constants
    again = pr.load(tmp_path / "model.safetensors")
    torch.set_default_dtype(torch.float64)
    assert torch.equal(again(crystal())["strain"], model(crystal())["strain"])
    assert not again.training


def test_bad_input_is_explained(float64):
    model = pr.models.RelaxedDistortion([22, 8], None, "4x0e+4x1o", cutoff=4.5)
    with pytest.raises(ValueError, match="atom 0 has atomic number 56"):
        model(crystal())
    with pytest.raises(ValueError, match="no path leads"):
        pr.models.RelaxedE3NN("0e", "5o")
    with pytest.raises(ValueError, match="'pool' must be"):
        pr.models.RelaxedE3NN("0e", "0e", pool="max")
    net = pr.models.RelaxedE3NN("0e", "0e", "4x0e+4x1o", irreps_global="1o", num_layers=1)
    x, pair, vec, u = torch.ones(2, 1), torch.tensor([[0, 1], [1, 0]]), torch.randn(2, 3), torch.randn(1, 3)
    for arguments, message in (
        ((x, pair, vec), "needs global attributes 'u'"),
        ((x, pair, vec, None, u.expand(2, 3)), "'u' has 2 rows, but without 'batch' there is one graph"),
        ((x, pair, vec[:1], None, u), r"'edge_vec' must have shape \(2, 3\)"),
        ((x,), "'edge_index' and 'edge_vec' are needed"),
        ((Data(x=x, edge_index=pair, u=u),), "needs 'x' and 'pos' or 'edge_vec'"),
        ((Data(pos=torch.randn(2, 3), edge_index=pair, u=u),), "needs 'x' and 'pos' or 'edge_vec'"),
    ):
        with pytest.raises(ValueError, match=message):
            net(*arguments)
    with pytest.raises(TypeError, match=r"'x' is torch\.float32"):
        net(x.float(), pair, vec, None, u)
