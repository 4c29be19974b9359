"""What theta breaks, and whether labels ask for it."""

import copy

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

import pyg_relaxed as pr


@pytest.fixture
def model():
    torch.manual_seed(0)
    return pr.nn.RelaxedLinear("8x0e+4x1o", "4x1o", "0e+1o+2e")


def error_on(x, y):
    return lambda model: (model(x) - y).square().mean().item()


AXIS = torch.tensor([2.0, -1.0, 2.0]) / 3


class TestGroup:
    def test_of_a_strict_model(self, model):
        assert pr.theta_group(model) == "∞∞m"

    def test_of_a_vector(self, model):
        model.theta.set_(torch.tensor([1.0, *(1e-3 * AXIS), *[0.0] * 5]))
        assert pr.theta_group(model) == "∞m"

    def test_of_several_thetas_it_is_what_they_share(self):
        pair = torch.nn.ModuleList(pr.nn.RelaxedLinear("1o", "1o", "0e+1o") for _ in range(2))
        pair[0].theta.set_(torch.tensor([1.0, 0.1, 0.0, 0.0]))
        assert pr.theta_group(pair) == "∞m"
        pair[1].theta.set_(torch.tensor([1.0, 0.0, 0.1, 0.0]))
        assert pr.theta_group(pair) == "m"


class TestTurns:
    def test_labels_that_break_symmetry_need_this_theta(self, model):
        x = torch.randn(200, model.irreps_in.dim)
        model.theta.set_(torch.tensor([1.0, *(0.3 * AXIS), *[0.0] * 5]))
        y = model(x).detach() + 0.01
        found = pr.turn_test(model, error_on(x, y), num_turns=99)
        assert found.probability == 1 / 100
        assert found.strict > found.error
        assert min(found.turned) > found.error

    @pytest.mark.parametrize("seed", range(3))
    def test_noise_is_as_good_turned(self, model, seed):
        """Isotropic inputs and labels of a strict model: no direction of theta is better than another."""
        torch.manual_seed(seed)
        x = torch.randn(2000, model.irreps_in.dim)
        y = model(x).detach()
        model.theta.set_(torch.tensor([1.0, *(0.01 * torch.randn(8))]))
        assert pr.turn_test(model, error_on(x, y), num_turns=99).probability > 0.01

    def test_a_pseudoscalar_has_but_one_turn(self):
        """Proper rotations leave it: half of all turns would be as good, whatever the labels."""
        torch.manual_seed(0)
        model = pr.nn.RelaxedLinear("4x0e+4x0o", "4x0e+4x0o", "0e+0o")
        model.theta.set_(torch.tensor([1.0, 0.5]))
        x = torch.randn(50, 8)
        found = pr.turn_test(model, error_on(x, model(x).detach()), num_turns=99)
        assert (len(found.turned), found.probability) == (1, 0.5)
        assert found.turned[0] > found.error

    def test_a_scalar_theta_is_never_a_finding(self, model):
        calls = []
        found = pr.turn_test(model, lambda model: float(len(calls.append(1) or calls)), num_turns=99)
        assert (found.probability, len(calls)) == (1.0, 1)

    def test_the_model_is_left_as_it_was(self, model):
        model.theta.set_(torch.tensor([1.0, *(0.3 * AXIS), *[0.1] * 5]))
        before = copy.deepcopy(model.state_dict())
        x = torch.randn(5, model.irreps_in.dim)
        pr.turn_test(model, error_on(x, x[:, :12]), num_turns=9)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_thetas_are_turned_together(self):
        """Turning all thetas and the structure changes nothing, so that structure and labels may be turned instead."""
        torch.manual_seed(1)
        model = pr.models.RelaxedE3NN("1o", "1o", "4x0e+4x1o", "0e+1o", num_layers=2, cutoff=3.0).double().eval()
        for theta in pr.thetas(model).values():
            theta.set_(torch.tensor([1.0, *torch.randn(3)]))
        graph = pr.data.build_graph(
            [1] * 3, np.random.default_rng(0).normal(size=(3, 3)), np.zeros((3, 3)), [False] * 3
        )
        x, edge_vec = torch.randn(3, 3).double(), pr.data.edge_vectors(graph).double()
        y = model(x, graph.edge_index, edge_vec).detach()
        seen = []

        def error(turned):
            (first, *_) = pr.thetas(turned).values()
            (kept, *_) = pr.thetas(model).values()
            seen.append(first().detach()[1:].norm() / kept().detach()[1:].norm())
            return (turned(x, graph.edge_index, edge_vec) - y).square().mean().item()

        assert pr.turn_test(model, error, num_turns=5).error == 0
        assert seen[0] == 1
        assert seen[1:6] == pytest.approx([1.0] * 5)


def test_it_works_with_potentials():
    from ase.build import molecule

    torch.manual_seed(0)
    model = pr.models.RelaxedPotential(["H", "O"], 4.0, "0e+1o", "4x0e+4x1o", 2, lmax=1, share_theta=True).eval()
    (theta,) = pr.thetas(model).values()
    theta.set_(torch.tensor([1.0, 0.3, 0.0, 0.0]))
    graphs = []
    for seed in range(10):
        atoms = molecule("H2O")
        atoms.rotate(*np.random.default_rng(seed).normal(size=(2, 3)))
        graphs.append(pr.from_ase(atoms, 4.0))
    batch = Batch.from_data_list(graphs)
    forces = model(batch)["forces"]
    found = pr.turn_test(model, lambda turned: (turned(batch)["forces"] - forces).abs().mean().item(), num_turns=99)
    assert found.probability == 1 / 100
