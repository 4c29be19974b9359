import numpy as np
import pytest
import spglib
import torch
from ase.build import bulk, make_supercell, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.spacegroup import crystal
from torch_geometric.data import Batch, Data

import pyg_relaxed as pr
from pyg_relaxed.data import rotate
from pyg_relaxed.transforms import PositionNoise, RadiusGraph, RandomStrain, Supercell, Symmetrize, unsymmetrize

RUTILE = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90])
QUARTZ = crystal(
    ["Si", "O"], [(0.47, 0, 0), (0.413, 0.268, 0.119)], spacegroup=152, cellpar=[4.913, 4.913, 5.405, 90, 90, 120]
)
CRYSTALS = {
    "P4mm": (pr.structures.load("BaTiO3_P4mm"), 99),
    "Amm2": (pr.structures.load("BaTiO3_Amm2"), 38),
    "R3m": (pr.structures.load("BaTiO3_R3m"), 160),
    "rutile": (RUTILE, 136),
    "quartz": (QUARTZ, 152),
    "diamond": (bulk("Si"), 227),
    "hcp": (bulk("Mg"), 194),
    "conventional": (bulk("NaCl", "rocksalt", a=5.64, cubic=True), 225),
    "long supercell": (bulk("Cu", cubic=True) * (3, 1, 1), 225),
    "skewed supercell": (make_supercell(bulk("NaCl", "rocksalt", a=5.64), [[1, 1, 0], [0, 1, 2], [0, 0, 1]]), 225),
}
LEFT = bulk("Si")
LEFT.set_cell(LEFT.cell.array[[1, 0, 2]])
CRYSTALS["left-handed"] = (LEFT, 227)
every_crystal = pytest.mark.parametrize(("atoms", "number"), CRYSTALS.values(), ids=CRYSTALS)


def space_group(data, symprec):
    scaled = data.pos.double().numpy() @ np.linalg.inv(data.cell[0].double().numpy())
    return spglib.get_symmetry_dataset((data.cell[0].double().numpy(), scaled, data.z.numpy()), symprec=symprec).number


def noisy(atoms, seed, strain=0.0):
    data = pr.from_ase(atoms, cutoff=4.0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    data = RandomStrain(strain, generator=generator)(data) if strain else data
    found = PositionNoise(0.01, generator=generator)(data)
    del found.site_noise
    return found


@every_crystal
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_taken_off_to_the_last_digit(atoms, number, seed):
    data = noisy(atoms, seed, strain=1e-3)
    assert space_group(data, 1e-5) <= 2  # two atoms have an inversion centre between them
    found = Symmetrize(symprec=0.08)(data)
    assert found.info_space_group_number.tolist() == [number]
    assert space_group(found, 1e-5) == number
    assert torch.equal(found.z, data.z)
    assert (found.pos - data.pos).norm(dim=1).max() < 0.1


@every_crystal
def test_once_is_enough(atoms, number):
    once = Symmetrize(symprec=0.08)(noisy(atoms, 0, strain=1e-3))
    twice = Symmetrize(symprec=0.08)(once)
    for name in ("pos", "cell", "site_displacement", "info_strain"):
        torch.testing.assert_close(twice[name], once[name], rtol=0, atol=1e-12)
    assert twice.info_space_group == once.info_space_group
    bare = Data(z=once.z, pos=once.pos, cell=once.cell, pbc=once.pbc)
    again = Symmetrize(symprec=0.08)(bare)
    torch.testing.assert_close(again.pos, once.pos, rtol=0, atol=1e-12)
    assert again.site_displacement.abs().max() < 1e-12


@every_crystal
def test_the_way_back(atoms, number):
    data = noisy(atoms, 0, strain=1e-3)
    found = Symmetrize(symprec=0.08)(data)
    torch.testing.assert_close(found.site_displacement.mean(dim=0), torch.zeros(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.info_strain, found.info_strain.mT, rtol=0, atol=1e-14)
    F = torch.eye(3) + found.info_strain[0]
    torch.testing.assert_close(data.cell, found.cell @ F.T, rtol=0, atol=1e-10)
    for once_more in (found, Symmetrize(symprec=0.08)(found)):
        original = unsymmetrize(once_more)
        torch.testing.assert_close(original.pos, data.pos, rtol=0, atol=1e-10)
        torch.testing.assert_close(original.cell, data.cell, rtol=0, atol=1e-10)
        assert set(original.keys()) == set(data.keys())
        assert torch.equal(original.edge_index, data.edge_index)


def test_the_way_back_from_other_axes():
    data, R = noisy(RUTILE, 1, strain=1e-3), torch.linalg.qr(torch.randn(3, 3).double())[0]
    back, expected = unsymmetrize(rotate(Symmetrize(0.08)(data), R)), rotate(data, R)
    torch.testing.assert_close(back.pos, expected.pos)
    torch.testing.assert_close(back.cell, expected.cell)


def test_the_way_back_from_a_supercell():
    data = noisy(RUTILE, 1, strain=1e-3)
    back, expected = (unsymmetrize(Supercell(2)(Symmetrize(0.08)(data))), Supercell(2)(data))
    torch.testing.assert_close(back.pos, expected.pos)
    torch.testing.assert_close(back.cell, expected.cell)


def test_no_way_back_from_a_strained_cell():
    strained = RandomStrain(0.1)(Symmetrize(0.08)(noisy(RUTILE, 1)))
    assert not {"site_displacement", "info_strain", "info_space_group"} & set(strained.keys())
    with pytest.raises(ValueError, match=r"a change of the cell takes away .*: unsymmetrize before the cell changes"):
        unsymmetrize(strained)


@pytest.mark.parametrize("name", pr.structures.NAMES[1:])
def test_the_parent_is_found_at_a_loose_tolerance(name):
    """The cell has not turned, so that displacement and strain are those of the child in its parent's frame."""
    child = pr.from_ase(pr.structures.load(name), dtype=torch.float64)
    parent = Symmetrize(symprec=0.3)(child)
    assert parent.info_space_group == "Pm-3m"
    cell = parent.cell[0]
    torch.testing.assert_close(cell @ cell.T, (cell[0] @ cell[0]) * torch.eye(3).double(), rtol=1e-12, atol=1e-12)
    # The direction of the polar distortion: Ti against the mean of the oxygens.
    polar = parent.site_displacement[1] - parent.site_displacement[2:].mean(dim=0)
    axis = {"BaTiO3_P4mm": [0, 0, 1], "BaTiO3_Amm2": [1, 1, 0], "BaTiO3_R3m": [1, 1, 1]}[name]
    assert torch.cosine_similarity(polar, torch.tensor(axis).double(), dim=0).abs() > 1 - 1e-9


@pytest.mark.parametrize("improper", [False, True])
def test_other_axes_are_other_axes_only(improper):
    data = noisy(RUTILE, 1, strain=1e-3)
    R = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    R = R * torch.linalg.det(R).sign() * (-1 if improper else 1)
    found, expected = Symmetrize(0.08)(rotate(data, R)), Symmetrize(0.08)(data)
    torch.testing.assert_close(found.pos, expected.pos @ R.T)
    torch.testing.assert_close(found.info_strain, R @ expected.info_strain @ R.T, rtol=0, atol=1e-12)


def test_atoms_may_lie_anywhere():
    data = noisy(RUTILE, 0)
    away = torch.randint(-3, 4, (6, 3), generator=torch.Generator().manual_seed(0)).double() @ data.cell[0]
    shifted = Data(z=data.z, pos=data.pos + away, cell=data.cell, pbc=data.pbc)
    torch.testing.assert_close(Symmetrize(0.08)(shifted).pos, Symmetrize(0.08)(data).pos + away)


def test_labels_go_and_edges_are_found_anew():
    atoms = pr.structures.load("BaTiO3_P4mm")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((5, 3)))
    data = pr.from_ase(atoms, cutoff=4.0, dtype=torch.float64)
    found = Symmetrize(0.3)(data)
    assert not {"energy", "forces"} & set(found.keys())
    assert "energy" in Symmetrize(0.3, keep=["energy"])(data)
    again = RadiusGraph(4.0)(Data(pos=found.pos, cell=found.cell, pbc=found.pbc))
    assert torch.equal(found.edge_index, again.edge_index)
    assert "info_space_group" not in data


def test_a_batch_is_its_graphs_in_float32_too():
    graphs = [pr.from_ase(pr.structures.load(name), extras=False) for name in pr.structures.NAMES[1:]]
    batch = Symmetrize(0.3)(Batch.from_data_list(graphs))
    assert batch.info_space_group == ["Pm-3m"] * 3
    assert batch.info_strain.shape == (3, 3, 3)
    assert batch.pos.dtype == batch.site_displacement.dtype == torch.float32
    torch.testing.assert_close(unsymmetrize(batch).pos, torch.cat([graph.pos for graph in graphs]))


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match=r"'pbc' is \[\[False, False, False\]\]"):
        Symmetrize()(pr.from_ase(molecule("H2O")))
    with pytest.raises(ValueError, match="'pbc' is None, 'cell' is missing"):
        Symmetrize()(Data(z=torch.ones(1), pos=torch.zeros(1, 3)))
    with pytest.raises(ValueError, match="needs atomic numbers 'z'"):
        Symmetrize()(Data(pos=torch.zeros(1, 3), cell=torch.eye(3)[None], pbc=torch.ones(1, 3, dtype=torch.bool)))
    with pytest.raises(ValueError, match=r"spglib finds no space group of 2 atoms at symprec=5.0 Å"):
        Symmetrize(symprec=5.0)(pr.from_ase(bulk("Si")))
    with pytest.raises(ValueError, match="needs 'site_displacement' and 'info_strain', which Symmetrize leaves"):
        unsymmetrize(Data(pos=torch.zeros(1, 3)))
    with pytest.raises(ValueError, match="'symprec' must be positive"):
        Symmetrize(0.0)
    assert repr(Symmetrize()) == "Symmetrize(symprec=0.01)"
