"""Tensors of structures and atoms turn with them, keep their symmetry of indices, and survive a file."""

import pytest
import torch
from systems import system
from torch_geometric.data import Batch

import pyg_relaxed as pr
from pyg_relaxed.models import Ensemble, RelaxedTensor

FORMULAS = ["", "i", "ij=ji", "ij", "ijk=ikj", "ijkl=jikl=klij"]


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def graph(seed=0, pbc=True):
    return pr.from_ase(system(seed, pbc), 4.0)


def model(formula="ij=ji", hidden="4x0e+4x0o+4x1e+4x1o+4x2e+4x2o+2x3e+2x3o+2x4e+2x4o", **kwargs):
    torch.manual_seed(0)
    return RelaxedTensor(["H", "C", "O"], formula, "t", 4.0, irreps_hidden=hidden, num_layers=2, **kwargs)


def turned(tensor, R, rank, sign=1.0):
    for axis in range(tensor.dim() - rank, tensor.dim()):
        tensor = torch.tensordot(tensor, R, dims=([axis], [1])).movedim(-1, axis)
    return sign * tensor


@pytest.mark.parametrize("axial", [False, True])
@pytest.mark.parametrize("per_atom", [False, True])
@pytest.mark.parametrize("formula", FORMULAS)
def test_it_turns_with_the_structure(formula, per_atom, axial):
    net = model(formula, per_atom=per_atom, axial=axial, irreps_theta="0e+1o+1e+2e")
    for theta in pr.thetas(net).values():
        theta.set_(torch.randn(theta.irreps_theta.dim))
    data = graph()
    R = -torch.linalg.matrix_exp(torch.tensor([[0.0, 0.3, -0.7], [-0.3, 0.0, 0.2], [0.7, -0.2, 0.0]]))
    rank = len(formula.partition("=")[0])
    expected = turned(net(data)["t"], R, rank, torch.linalg.det(R).item() if axial else 1.0)
    found = pr.rotate_(net, R)(pr.data.rotate(data, R))["t"]
    assert expected.abs().max() > 1e-3
    assert len(found) == (data.num_nodes if per_atom else 1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("formula", "swap"), [("ij=ji", (0, 2, 1)), ("ijk=ikj", (0, 1, 3, 2))])
def test_indices_may_be_exchanged(formula, swap):
    out = model(formula)(graph())["t"]
    torch.testing.assert_close(out, out.permute(swap))


@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_of_a_supercell_a_mean_stays_and_a_sum_grows(pool):
    atoms = system(1, True)
    net = model(pool=pool, shift=2.0)
    one, eight = (net(pr.from_ase(cell, 4.0))["t"] for cell in (atoms, atoms * 2))
    torch.testing.assert_close(eight, one if pool == "mean" else 8 * one)


def test_scale_and_shift_are_of_the_tensor():
    data = graph()
    plain, changed = model()(data)["t"], model(scale=3.0, shift=3**0.5)(data)["t"]
    torch.testing.assert_close(changed, 3 * plain + torch.eye(3))


def test_a_batch_is_its_graphs():
    net = model(fields={"electric_field": "1o"})
    graphs = [graph(seed, pbc) for seed, pbc in ((0, True), (1, True), (2, True))]
    for n, data in enumerate(graphs):
        data.electric_field = torch.tensor([[0.1 * n, 0.0, 0.3]])
    apart = torch.cat([net(data)["t"] for data in graphs])
    torch.testing.assert_close(net(Batch.from_data_list(graphs))["t"], apart)
    assert (apart[1:] - net(Batch.from_data_list(graphs[:1] * 2))["t"]).abs().max() > 1e-6


def test_default_irreps_hold_the_tensor():
    assert model("ijk=ikj", hidden=None)(graph())["t"].shape == (1, 3, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": "4x0e+4x1o"}, "lacks 2e"),
        ({"pool": "max"}, "'pool' must be 'mean' or 'sum'"),
        ({"shift": [1.0, 2.0]}, "each of the 1 scalars"),
        ({"formula": "i=j=k"}, "'formula' must be such as"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        model(**arguments)


def test_a_file_holds_all_of_it(tmp_path):
    net = model("ijk=ikj", scale=2.0, irreps_theta="0e+1o").eval()
    pr.save(net, tmp_path / "t.safetensors")
    assert torch.equal(pr.load(tmp_path / "t.safetensors")(graph())["t"], net(graph())["t"])


def test_an_ensemble_gives_mean_and_spread():
    torch.manual_seed(1)
    models = [RelaxedTensor(["H", "C", "O"], "i", "t", 4.0, irreps_hidden="4x0e+4x1o", num_layers=1) for _ in range(3)]
    values = torch.stack([one(graph())["t"] for one in models])
    out = Ensemble(models)(graph())
    torch.testing.assert_close(out["t"], values.mean(0))
    torch.testing.assert_close(out["t_std"], values.std(0))
    assert list(Ensemble(models[:1])(graph())) == ["t"]
    with pytest.raises(ValueError, match="at least one"):
        Ensemble([])


@pytest.mark.parametrize(("formula", "kwargs"), [("ij=ji", {"axial": True}), ("ijk", {})])
def test_a_shift_leaves_pseudoscalars_alone(formula, kwargs):
    """A constant of 0o would be the same for a molecule and its mirror image."""
    strict = model(formula, shift=1.0, **kwargs)
    data = graph(pbc=False)
    mirrored = pr.data.rotate(data, -torch.eye(3))
    rank = len(formula.split("=")[0])
    sign = (-1) ** (rank + bool(kwargs))
    torch.testing.assert_close(strict(mirrored)["t"], sign * strict(data)["t"])
