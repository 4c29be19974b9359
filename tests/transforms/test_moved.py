"""Noise and strain: what moves, what stays, what no longer belongs to the structure."""

import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

import pyg_relaxed as pr
from pyg_relaxed.data import KEYS
from pyg_relaxed.transforms import ModeDisplacement, PositionNoise, RadiusGraph, RandomStrain


def labelled(atoms):
    results = {"energy": -1.0, "forces": np.ones((len(atoms), 3)), "charges": np.zeros(len(atoms))}
    if atoms.cell.rank == 3:
        results["stress"] = np.zeros(6)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return pr.from_ase(atoms, cutoff=4.0, dtype=torch.float64)


STRUCTURES = {
    "crystal": bulk("NaCl", "rocksalt", a=5.64),
    "slab": fcc111("Cu", (1, 1, 3), vacuum=5.0),
    "molecule": molecule("CH3CH2OH"),
}
MOVES = {
    "noise": lambda **options: PositionNoise(0.1, **options),
    "strain": lambda **options: RandomStrain(0.05, **options),
    "mode": lambda **options: ModeDisplacement(torch.eye(3)[:2], 0.3, **options),
}
every_structure = pytest.mark.parametrize("atoms", STRUCTURES.values(), ids=STRUCTURES)
every_move = pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)


@every_move
def test_targets_go_and_edges_are_those_of_the_new_positions(move):
    data = labelled(STRUCTURES["crystal"])
    data.frac_coords, data.edge_vec = torch.zeros(2, 3), torch.zeros(data.num_edges, 3)
    before = {name: value.clone() for name, value in data if isinstance(value, torch.Tensor)}
    found = move()(data)
    assert not {key.name for key in KEYS.values() if key.role == "target"} & set(found.keys())
    assert not {"frac_coords", "edge_vec"} & set(found.keys())
    again = RadiusGraph(4.0)(Data(pos=found.pos, cell=found.cell, pbc=found.pbc))
    assert torch.equal(found.edge_index, again.edge_index)
    assert torch.equal(found.edge_cell_shift, again.edge_cell_shift)
    assert not torch.equal(found.pos, data.pos)
    assert all(torch.equal(data[name], value) for name, value in before.items())  # the input is left alone


@every_move
def test_targets_stay_on_purpose(move):
    data = labelled(STRUCTURES["crystal"])
    found = move(keep=("energy", "forces"))(data)
    assert {"energy", "forces"} <= set(found.keys())
    assert not {"stress", "charges"} & set(found.keys())
    with pytest.raises(
        ValueError, match=r"'keep' names 'eneryg', which is no target: choose among energy, free_energy"
    ):
        move(keep=("eneryg",))


@every_move
def test_edges_without_a_cutoff_are_the_callers(move):
    data = Data(pos=torch.eye(3)[:2], edge_index=torch.tensor([[0], [1]]), edge_attr=torch.ones(1, 1))
    found = move()(data)
    assert torch.equal(found.edge_index, data.edge_index)
    assert torch.equal(found.edge_attr, data.edge_attr)


@pytest.mark.parametrize("move", [MOVES["noise"], MOVES["strain"]], ids=["noise", "strain"])
def test_each_structure_of_a_batch_moves_by_itself(move):
    data = labelled(STRUCTURES["crystal"])
    batch = move(generator=torch.Generator().manual_seed(0))(Batch.from_data_list([data, data]))
    generator = torch.Generator().manual_seed(0)
    alone = [move(generator=generator)(data) for _ in range(2)]
    assert torch.equal(batch.pos, torch.cat([graph.pos for graph in alone]))
    assert not torch.equal(*batch.pos.reshape(2, 2, 3))
    assert batch.to_data_list()[1].num_edges == alone[1].num_edges
    (loaded,) = DataLoader(alone, batch_size=2)
    assert set(loaded.keys()) == set(batch.keys())


@every_structure
def test_noise_is_kept_and_adds_up(atoms):
    data = labelled(atoms.copy())
    noise = PositionNoise(0.05)
    twice = noise(noise(data))
    torch.testing.assert_close(twice.pos - twice.site_noise, data.pos)
    assert torch.equal(twice.cell, data.cell)


def test_noise_has_the_spread_asked_for_in_the_dtype_of_the_graph():
    found = PositionNoise(0.2, generator=torch.Generator().manual_seed(0))(Data(pos=torch.zeros(4000, 3)))
    assert found.site_noise.std().item() == pytest.approx(0.2, rel=0.03)
    assert found.pos.dtype == torch.float32


def test_fixed_atoms_stay_under_noise():
    slab = fcc111("Cu", (1, 1, 3), vacuum=5.0)
    slab.set_constraint(FixAtoms([0]))
    data = labelled(slab)
    found = PositionNoise(0.1)(data)
    assert torch.equal(found.pos[0], data.pos[0])
    assert (found.pos[1:] != data.pos[1:]).all()


@every_structure
def test_strain_keeps_fractional_coordinates(atoms):
    atoms = atoms.copy()
    data = labelled(atoms)
    found = RandomStrain(0.05)(data)
    if atoms.cell.rank == 3:
        cells = [graph.cell[0].inverse() for graph in (found, data)]
        torch.testing.assert_close(found.pos @ cells[0], data.pos @ cells[1])
    else:
        assert torch.equal(found.cell, data.cell)


@given(st.integers(0, 2**31), st.floats(1e-3, 2.0))
def test_strain_is_symmetric_and_never_inverts(seed, magnitude):
    data = Data(pos=torch.eye(3, dtype=torch.float64), cell=torch.eye(3, dtype=torch.float64)[None])
    strained = RandomStrain(magnitude, generator=torch.Generator().manual_seed(seed))(data)
    F = strained.cell[0]
    torch.testing.assert_close(F, F.T)
    assert torch.linalg.eigvalsh(F).min() > 0
    torch.testing.assert_close(strained.pos, F)


def test_strain_prefers_no_axis():
    """Its second moments are those of an isotropic distribution: var(xx) = magnitude^2 = 2 var(xy)."""
    generator = torch.Generator().manual_seed(0)
    data, strain = Data(pos=torch.eye(3, dtype=torch.float64)), RandomStrain(1e-3, generator=generator)
    samples = torch.stack([strain(data).pos - torch.eye(3) for _ in range(4000)]) / 1e-3
    variance = samples.var(dim=0)
    torch.testing.assert_close(variance, (torch.eye(3).double() + 1) / 2, rtol=0.1, atol=0)


def test_the_origin_of_the_cell_strains_along():
    data = Data(pos=torch.ones(1, 3), cell=torch.eye(3)[None], celldisp=torch.ones(1, 3))
    found = RandomStrain(0.1)(data)
    torch.testing.assert_close(found.celldisp, found.pos)


def test_noise_strains_along():
    noisy = PositionNoise(0.1)(labelled(STRUCTURES["crystal"]))
    found = RandomStrain(0.1)(noisy)
    F = noisy.cell[0].inverse() @ found.cell[0]
    torch.testing.assert_close(found.pos - found.site_noise, (noisy.pos - noisy.site_noise) @ F)


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match="'std' must be positive"):
        PositionNoise(-1.0)
    with pytest.raises(ValueError, match="'magnitude' must be positive"):
        RandomStrain(0.0)
    with pytest.raises(ValueError, match=r"needs positions 'pos' \(it has z\)"):
        PositionNoise(0.1)(Data(z=torch.ones(1)))
    assert repr(PositionNoise(0.1)) == "PositionNoise(std=0.1)"
    assert repr(RandomStrain(0.1)) == "RandomStrain(magnitude=0.1)"
