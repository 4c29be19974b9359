"""How a potential starts: forces of the size that it is told the data have, and little answer to a field."""

import pytest
import torch
from ase.build import molecule
from torch_geometric.data import Batch

import pyg_relaxed as pr

MOLECULES = ("H2O", "NH3", "CH4", "CH3CH2OH", "C6H6")


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_forces_on_molecules_are_neither_huge_nor_nothing(seed, reset):
    torch.manual_seed(seed)
    model = pr.models.RelaxedPotential(["H", "C", "N", "O"], num_neighbors=6.0)
    if reset:
        model.reset_parameters()
    batch = Batch.from_data_list([pr.from_ase(molecule(name), 5.0) for name in MOLECULES])
    assert 0.05 < model.eval()(batch)["forces"].square().mean().sqrt() < 5


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_field_does_not_make_large_ions_of_atoms(seed, reset):
    """Else a learned field grows in the direction that suits these random charges, and stays there."""
    torch.manual_seed(seed)
    model = pr.models.RelaxedPotential(
        ["H", "O"], 4.0, num_layers=2, num_neighbors=3.0, fields={"electric_field": "1o"}
    )
    if reset:
        model.reset_parameters()
    atoms = molecule("H2O")
    atoms.info = {"charge": 1.0, "electric_field": [0.0, 0.0, 0.01]}
    inside = pr.from_ase(atoms, 4.0)
    outside = inside.clone()
    outside.electric_field = torch.zeros_like(inside.electric_field)
    pulled = model.eval()(inside)["forces"] - model(outside)["forces"]
    together = pulled.mean(dim=0)  # what pulls at the charge of the whole, which nobody draws at random
    assert together == pytest.approx(torch.tensor([0.0, 0.0, 0.01 / 3]), abs=1e-5)
    assert (pulled - together).square().mean().sqrt() < 0.01 * 1  # V/Å, e
