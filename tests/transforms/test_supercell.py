import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111, make_supercell, molecule
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch_geometric.data import Batch, Data

import pyg_relaxed as pr
from pyg_relaxed.data import KEYS, edge_vectors
from pyg_relaxed.transforms import RadiusGraph, Supercell

MATRICES = [
    2,
    (1, 2, 3),
    [[0, 1, 1], [1, 0, 1], [1, 1, 0]],
    [[1, 1, 0], [-1, 1, 0], [0, 0, 2]],
    [[2, 1, 0], [0, 1, -1], [0, 0, 1]],
]
NACL = bulk("NaCl", "rocksalt", a=5.64)


def full(matrix):
    return np.asarray(matrix) * np.eye(3, dtype=int) if np.ndim(matrix) < 2 else np.array(matrix)


def assert_same_crystal(data, atoms):
    """Equal as sets of (species, position) modulo the lattice."""
    np.testing.assert_allclose(data.cell[0], atoms.cell.array, atol=1e-12)
    delta = (data.pos.numpy()[:, None] - atoms.positions) @ np.linalg.inv(atoms.cell.array)
    distance = np.abs(delta - np.round(delta)).max(axis=2) + (data.z.numpy()[:, None] != atoms.numbers)
    assert len(data.pos) == len(atoms)
    assert sorted(distance.argmin(axis=1)) == list(range(len(atoms)))
    assert distance.min(axis=1).max() < 1e-9


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_it_is_the_supercell_of_ase(matrix):
    data = Supercell(matrix)(pr.from_ase(NACL, cutoff=4.0, dtype=torch.float64))
    atoms = make_supercell(NACL, full(matrix))
    assert_same_crystal(data, atoms)
    again = pr.from_ase(pr.to_ase(data), cutoff=4.0, dtype=torch.float64)
    assert torch.equal(data.edge_index, again.edge_index)
    assert torch.equal(data.edge_cell_shift, again.edge_cell_shift)


@given(arrays(int, (3, 3), elements=st.integers(-3, 3)))
def test_every_integer_matrix_of_positive_determinant(matrix):
    matrix[0] *= int(np.sign(np.linalg.det(matrix))) or 1
    assume(0 < round(np.linalg.det(matrix)) <= 30)
    data = Supercell(matrix)(pr.from_ase(NACL, cutoff=2.9, dtype=torch.float64))
    assert_same_crystal(data, make_supercell(NACL, matrix))
    assert data.pos[:2].equal(torch.from_numpy(NACL.positions))
    assert len(data.edge_index[0]) == 6 * len(data.pos)


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_images_have_the_features_of_their_atom(matrix, float64):
    conv = pr.nn.RelaxedConv("4x0e", "2x0e+1o+2e", "0e+1o+2e", "0e+1o+1e+2e", cutoff=4.5)
    conv.theta.set_(torch.randn(12))
    data = pr.from_ase(NACL, cutoff=4.5)
    data.x = torch.randn(2, 4)
    larger = Supercell(matrix)(data)
    assert torch.equal(larger.x, data.x[larger.site_primitive])
    found, expected = (conv(graph.x, graph.edge_index, edge_vectors(graph)) for graph in (larger, data))
    torch.testing.assert_close(found, expected[larger.site_primitive], rtol=1e-10, atol=1e-10)


def test_labels_scale_as_they_should():
    data = pr.from_ase(NACL, cutoff=4.0)
    data.energy, data.charge, data.dipole = torch.tensor([-2.0]), torch.tensor([1.0]), torch.ones(1, 3)
    data.magmom, data.spin = torch.tensor([0.5]), torch.tensor([2])
    data.stress, data.polarization, data.dielectric_tensor = torch.eye(3)[None], torch.ones(1, 3), torch.eye(3)[None]
    data.forces, data.born_effective_charges = torch.randn(2, 3), torch.randn(2, 3, 3)
    data.labels, data.site_wyckoff, data.info_source = ["Na1", "Cl1"], torch.tensor([4, 5]), "table"
    data.fixed, data.frac_coords = torch.tensor([[True] * 3, [False] * 3]), torch.zeros(2, 3)
    data.edge_vec = torch.zeros(data.num_edges, 3)
    found = Supercell((3, 1, 1))(data)
    for name in ("energy", "charge", "dipole", "magmom"):
        assert torch.equal(found[name], 3 * data[name]), name
    assert found.spin.tolist() == [4]  # three unpaired electrons
    for name in ("stress", "polarization", "dielectric_tensor", "pbc", "cutoff"):
        assert torch.equal(found[name], data[name]), name
    for name in ("z", "forces", "born_effective_charges", "site_wyckoff", "fixed"):
        assert torch.equal(found[name], torch.cat([data[name]] * 3)), name
    assert found.labels == ["Na1", "Cl1"] * 3
    assert found.info_source == "table"
    assert found.site_primitive.tolist() == [0, 1] * 3
    assert not {"frac_coords", "edge_vec"} & set(found.keys())
    assert data.num_nodes == 2
    assert data.energy.item() == -2.0
    found.validate()


EXTENSIVE = {"energy", "free_energy", "dipole", "polarizability", "charge", "magmom"}
CHANGED = {"cell", "spin"}  # neither stay nor count the cells


@pytest.mark.parametrize(
    "key", [key for key in KEYS.values() if key.level == "graph" and key.name not in CHANGED], ids=lambda key: key.name
)
def test_each_property_of_the_structure_counts_the_cells_or_stays(key):
    data = Data(pos=torch.zeros(1, 3), cell=torch.eye(3)[None], pbc=torch.ones(1, 3, dtype=torch.bool))
    if key.dtype == "str":
        data[key.name] = "cartesian"
        assert Supercell((1, 2, 3))(data)[key.name] == "cartesian"
        return
    data[key.name] = torch.ones(key.shape, dtype=torch.bool if key.dtype == "bool" else torch.float64)
    times = 6 if key.name in EXTENSIVE else 1
    assert torch.equal(Supercell((1, 2, 3))(data)[key.name], times * data[key.name])


def test_attributes_of_the_old_edges_go():
    data = pr.from_ase(NACL, cutoff=4.0)
    for name in ("edge_weight", "edge_attr", "weights"):
        data[name] = torch.ones(data.num_edges)
    found = Supercell((1, 1, 2))(data)
    assert not {"edge_weight", "edge_attr", "weights"} & set(found.keys())
    found.validate()


def test_a_supercell_of_a_supercell_names_the_first_atoms():
    found = Supercell(2)(Supercell((1, 1, 2))(pr.from_ase(NACL, cutoff=4.0)))
    assert found.site_primitive.tolist() == [0, 1] * 16


def test_one_atom_and_no_edges():
    """The cell of a crystal of 1 or 3 atoms is not mistaken for a property of the atoms, in PyG's Data either."""
    data = Data(pos=torch.zeros(1, 3), cell=torch.eye(3)[None], pbc=torch.ones(1, 3, dtype=torch.bool), num_nodes=1)
    found = Supercell(2)(data)
    assert found.cell.tolist() == (2 * torch.eye(3)[None]).tolist()
    assert found.num_nodes == len(found.pos) == 8
    assert "edge_index" not in found


def test_a_batch_is_its_graphs():
    graphs = [pr.from_ase(atoms, cutoff=4.0) for atoms in (NACL, bulk("Cu"))]
    batch = Supercell((1, 1, 2))(Batch.from_data_list(graphs))
    assert torch.equal(batch.pos, torch.cat([Supercell((1, 1, 2))(graph).pos for graph in graphs]))
    assert torch.equal(batch.ptr, torch.tensor([0, 4, 6]))


def test_the_identity_changes_nothing():
    data = pr.from_ase(NACL, cutoff=4.0)
    found = Supercell(1)(data)
    assert torch.equal(found.pos, data.pos)
    assert torch.equal(found.edge_index, data.edge_index)


def test_bad_input_is_explained():
    for matrix in (1.5, [1, 2], "2", [[1, 0], [0, 1]], float("nan")):
        with pytest.raises(ValueError, match="'matrix' must be an integer, three, or 3 x 3 of them"):
            Supercell(matrix)
    for matrix in (0, -1, (1, -1, -1), np.diag([1, 1, -1]), np.ones((3, 3))):
        with pytest.raises(ValueError, match="must have a positive determinant, or positive numbers"):
            Supercell(matrix)
    with pytest.raises(ValueError, match="this is a molecule"):
        Supercell(2)(Data(pos=torch.zeros(1, 3)))
    with pytest.raises(ValueError, match="lattice vector 0 is not periodic"):
        Supercell(2)(pr.from_ase(molecule("H2O")))
    slab = pr.from_ase(fcc111("Cu", (1, 1, 3), vacuum=5.0))
    with pytest.raises(ValueError, match=r"lattice vector 2 is not periodic .* give 1 there"):
        Supercell(2)(slab)
    assert len(Supercell((2, 2, 1))(slab).pos) == 12
    del slab.cutoff
    with pytest.raises(ValueError, match=r"no 'cutoff' .* apply RadiusGraph\(cutoff\)"):
        Supercell((2, 2, 1))(slab)
    assert Supercell((2, 2, 1))(RadiusGraph(3.0)(slab)).num_edges > 0
    assert repr(Supercell((1, 1, 2))) == "Supercell([[1, 0, 0], [0, 1, 0], [0, 0, 2]])"
