"""Tables of splines: as exact as promised, exact derivatives of themselves, never stale."""

import pytest
import torch
from torch_geometric.data import Data

import pyg_relaxed as pr
from pyg_relaxed.nn import RadialTable, RelaxedConv, tabulate_


def network(**options):
    options = {"lmax": 2, "num_layers": 2, "cutoff": 5.0, "num_neighbors": 30.0, "pool": "sum", **options}
    return pr.models.RelaxedE3NN("1x0e", "0e", "8x0e+8x1o+8x2e", "0e+1o+2e", **options).eval()


def energy_and_forces(model):
    graph = pr.from_ase(pr.structures.load("BaTiO3_R3m").repeat(2), cutoff=5.0, dtype=torch.float64, extras=False)
    pos = graph.pos.requires_grad_()
    x = torch.ones(graph.num_nodes, 1)
    inputs = Data(x=x, pos=pos, edge_index=graph.edge_index, cell=graph.cell, edge_cell_shift=graph.edge_cell_shift)
    energy = model(inputs).sum()
    return energy.detach(), -torch.autograd.grad(energy, pos)[0]


def test_forces_are_those_of_the_network(float64):
    model = network()
    energy, forces = energy_and_forces(model)
    found, found_forces = energy_and_forces(tabulate_(model))
    assert abs(found / energy - 1) < 1e-8
    assert (found_forces - forces).abs().max() < 1e-6 * forces.abs().max()
    assert not torch.equal(found_forces, forces)


def test_gradients_are_exact_for_the_spline(float64):
    conv = tabulate_(RelaxedConv("2x0e+1x1o", "1x0e+1x1o", "0e+1o", cutoff=4.0), tol=1e-3).eval()
    x, edge_index = torch.randn(3, 5, requires_grad=True), torch.randint(0, 3, (2, 6))
    edge_vec = torch.randn(6, 3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, r: conv(x, edge_index, r), (x, edge_vec))


def test_a_second_derivative_is_refused_with_the_way_out(float64):
    conv = tabulate_(RelaxedConv("2x0e", "1x1o", "0e+1o", cutoff=4.0, self_connection=False)).eval()
    edge_vec = torch.randn(6, 3, requires_grad=True)
    y = conv(torch.randn(3, 2), torch.randint(0, 3, (2, 6)), edge_vec).square().sum()
    (gradient,) = torch.autograd.grad(y, edge_vec, create_graph=True)
    with pytest.raises(RuntimeError, match=r"call model.train\(\)"):
        gradient.sum().backward()


def test_the_stated_error_is_found_and_falls_with_the_tolerance(float64):
    conv = RelaxedConv("4x0e", "4x0e+2x1o", "0e+1o")
    coarse, fine = RadialTable(conv.radial, 5.0, tol=1e-3), RadialTable(conv.radial, 5.0, tol=1e-7)
    assert len(coarse.values) < len(fine.values)
    length = torch.rand(1000) * 5
    slopes = [torch.func.jvp(f, (length,), (torch.ones_like(length),))[1] for f in (conv.radial, coarse, fine)]
    largest = slopes[0].abs().max()
    for table, slope in zip((coarse, fine), slopes[1:], strict=True):
        assert (slope - slopes[0]).abs().max() / largest < 2 * table.error < 2 * table.tol


def test_a_table_follows_its_network(float64):
    conv = tabulate_(RelaxedConv("4x0e", "4x0e+2x1o", "0e+1o")).eval()
    x, edge_index, edge_vec = torch.randn(3, 4), torch.randint(0, 3, (2, 6)), torch.randn(6, 3)
    table = conv.table
    conv(x, edge_index, edge_vec)
    assert conv.table is table
    with torch.no_grad():
        for parameter in conv.radial.parameters():
            parameter.mul_(1.5)
    found = conv(x, edge_index, edge_vec)
    assert conv.table is not table
    conv.train()
    torch.testing.assert_close(found, conv(x, edge_index, edge_vec), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["weight", "buffer"])
def test_a_table_follows_writes_that_torch_does_not_count(name):
    class Scaled(torch.nn.Module):
        def __init__(self, numel):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(numel))
            self.register_buffer("buffer", torch.ones(numel))

        def forward(self, length):
            return torch.sin(length)[:, None] * self.weight * self.buffer

    conv = tabulate_(RelaxedConv("4x0e", "4x0e", "0e", radial=Scaled, self_connection=False)).eval()
    inputs = torch.randn(3, 4), torch.randint(0, 3, (2, 6)), torch.randn(6, 3)
    before = conv(*inputs)
    getattr(conv.radial, name).data.mul_(2.0)
    torch.testing.assert_close(conv(*inputs), 2 * before)


def test_forces_can_be_asked_for_after_inference_mode(float64):
    model = tabulate_(network())
    with torch.no_grad():
        next(model.parameters()).mul_(1.1)
        for module in model.modules():
            if isinstance(module, RelaxedConv):
                next(module.radial.parameters()).mul_(1.1)
    graph = pr.from_ase(pr.structures.load("BaTiO3_R3m"), cutoff=5.0, dtype=torch.float64, extras=False)
    graph.x = torch.ones(graph.num_nodes, 1)
    with torch.inference_mode():
        model(graph)
    energy_and_forces(model)


def test_a_tabulated_model_is_saved_as_any_other(float64, tmp_path):
    model = network()
    keys = set(model.state_dict())
    assert set(tabulate_(model).state_dict()) == keys
    pr.save(model, tmp_path / "model.safetensors")
    again = pr.load(tmp_path / "model.safetensors")
    assert all(module.table is None for module in again.modules() if isinstance(module, RelaxedConv))


def test_weights_that_depend_on_more_than_a_length_are_left_alone():
    conv = tabulate_(RelaxedConv("4x0e", "4x0e", "0e", edge_dim=2))
    assert conv.table is None


def test_what_no_table_can_hold_is_said():
    class Rough(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, length):
            return self.weight * torch.sin(1e7 * length)[:, None]

    with pytest.raises(ValueError, match="knots leave an error of"):
        RadialTable(Rough(), 5.0)
