"""How a potential starts: its forces are of the size that it is told the data have."""

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
