"""What other codes got wrong about neighbours and periodic boundaries, one test for each; the issue is named."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from torch_geometric.data import Batch, Data

import pyg_relaxed as pr
from pyg_relaxed.compat import o3
from pyg_relaxed.data import edge_vectors, neighbour_list
from pyg_relaxed.nn import RelaxedConv
from pyg_relaxed.transforms import RadiusGraph


def vectors(pos, cell, edge_index, shift):
    return pos[edge_index[0]] - pos[edge_index[1]] + shift.numpy() @ cell


def test_no_largest_number_of_neighbours():
    """PyG#1867, #2933, torchmd-net#21, torch_cluster#106: 32 by default, and then not symmetric."""
    edge_index, _ = neighbour_list(np.random.default_rng(0).normal(size=(200, 3)), np.zeros((3, 3)), [False] * 3, 50.0)
    assert edge_index.shape[1] == 200 * 199


def test_unsorted_batches_are_refused():
    """PyG#10254: edges between graphs."""
    with pytest.raises(ValueError, match="'batch' falls from 1 at atom 1 to 0 at atom 2"):
        neighbour_list(np.eye(3), np.zeros((2, 3, 3)), np.zeros((2, 3), bool), 5.0, [0, 1, 0])


def test_radius_graph_is_periodic():
    """PyG#10145, torch_cluster#245."""
    cu = bulk("Cu")
    data = RadiusGraph(2.6)(Data(pos=torch.tensor(cu.positions), cell=torch.tensor(cu.cell.array)[None], pbc=cu.pbc))
    assert data.num_edges == 12


def test_images_of_an_atom_are_its_neighbours():
    """FeNNol#11, fairchem#428: the equation of state of Cu was wrong in the cell of one atom."""
    one, many = pr.from_ase(bulk("Cu"), cutoff=6.0), pr.from_ase(bulk("Cu") * 4, cutoff=6.0)
    assert one.num_edges == many.num_edges / 64 == 78
    torch.testing.assert_close(edge_vectors(one).norm(dim=1).sort()[0], edge_vectors(many)[:78].norm(dim=1).sort()[0])


def test_no_edge_has_zero_length():
    """e3nn's guide to periodic boundaries keeps the edge of an atom to itself."""
    data = pr.from_ase(bulk("NaCl", "rocksalt", a=5.64), cutoff=6.0)
    assert edge_vectors(data).norm(dim=1).min() > 2.5


def test_several_edges_between_two_atoms_stay():
    """HydraGNN#313, pymatgen#2095: taken for duplicates."""
    data = pr.from_ase(bulk("NaCl", "rocksalt", a=5.64), cutoff=3.0)
    assert data.edge_index.T.tolist() == [[1, 0]] * 6 + [[0, 1]] * 6
    assert len({tuple(v) for v in edge_vectors(data)[:6].round(decimals=3).tolist()}) == 6


def test_a_site_is_not_its_own_neighbour_by_rounding():
    """pymatgen#2036: a site at 1 - 1e-9 is one at 0."""
    for x in (1 - 1e-9, 1 + 1e-9, -1e-52, 1e-52):
        edge_index, shift = neighbour_list([[4 * x, 0, 0]], 4 * np.eye(3), [True] * 3, 4.5)
        assert edge_index.shape[1] == 6
        assert shift.any(dim=1).all()


def test_a_cell_without_periodicity_wraps_nothing():
    """nvalchemi#104, torch-sim#575, fairchem#2129."""
    pos, cell = np.array([[0.1, 0, 0], [9.9, 0, 0]]), 10 * np.eye(3)
    assert neighbour_list(pos, cell, [False] * 3, 3.0)[0].shape[1] == 0
    assert neighbour_list(pos, cell, [True, False, False], 3.0)[0].shape[1] == 2
    assert pr.from_ase(Atoms("H2", pos, cell=cell), cutoff=3.0).pos.tolist() == torch.tensor(pos).float().tolist()


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.diag([8.0, 8.0, 0.0])])
def test_lattice_vectors_may_be_zero(cell):
    """matscipy#7: LinAlgError."""
    atoms = molecule("H2O")
    atoms.set_cell(cell)
    atoms.pbc = cell.any(axis=1)
    assert pr.from_ase(atoms, cutoff=2.0).num_edges == 6


def test_the_cell_comes_back_as_it_was():
    """mace#1541, #1523, #1496, #1684: vacuum was put into it, and its volume divided the stress."""
    slab = fcc111("Cu", (2, 2, 3))
    assert slab.cell[2].tolist() == [0, 0, 0]
    before = slab.copy()
    data = pr.from_ase(slab, cutoff=5.0, dtype=torch.float64)
    assert np.array_equal(data.cell[0], before.cell.array)
    assert np.array_equal(slab.cell.array, before.cell.array)
    assert np.array_equal(slab.pbc, before.pbc)
    assert pr.to_ase(data) == before


def test_atoms_outside_the_cell():
    """NeighbourLists.jl#6: the same crystal, its atoms moved by lattice vectors."""
    rng = np.random.default_rng(0)
    atoms = bulk("NaCl", "rocksalt", a=5.64) * 2
    atoms.rattle(0.1, seed=0)
    away = atoms.copy()
    away.positions += rng.integers(-3, 4, (len(atoms), 3)) @ atoms.cell.array
    lengths = [edge_vectors(pr.from_ase(a, 5.0, torch.float64)).norm(dim=1).sort()[0] for a in (atoms, away)]
    torch.testing.assert_close(*lengths)


@pytest.mark.parametrize("angle", [20, 40, 60, 120, 160])
def test_all_images_in_a_skewed_cell(angle):
    """kUPS#127, openmm#5382, matscipy#3: the same lattice in a skewed cell has the same neighbours."""
    a = np.radians(angle)
    cell = 3 * np.array([[1, 0, 0], [np.cos(a), np.sin(a), 0], [0.2, 0.1, 1]])
    for shear in (0, 1, 3):
        skewed = np.array([[1, 0, 0], [shear, 1, 0], [shear, -shear, 1]]) @ cell
        _, shift = neighbour_list([[0.0, 0, 0]], skewed, [True] * 3, 6.5)
        lengths = np.sort(np.linalg.norm(shift.numpy() @ skewed, axis=1))
        if shear == 0:
            expected = lengths
        np.testing.assert_allclose(lengths, expected)


def test_left_handed_cells():
    """NeighbourLists.jl#9: the same crystal with two lattice vectors exchanged."""
    right = bulk("NaCl", "rocksalt", a=5.64)
    left = right.copy()
    left.set_cell(right.cell.array[[1, 0, 2]])
    assert np.linalg.det(left.cell.array) * np.linalg.det(right.cell.array) < 0
    lengths = [edge_vectors(pr.from_ase(a, 7.0, torch.float64)).norm(dim=1).sort()[0] for a in (right, left)]
    torch.testing.assert_close(*lengths)


def test_atoms_without_neighbours_count():
    """CHGNet#35, m3gnet#38, matgl#85, symmetrix#81: atoms were counted by their edges."""
    atoms = Atoms("HHeLi", [[0, 0, 0], [50, 0, 0], [51, 0, 0]])
    alone = pr.from_ase(Atoms("H"), cutoff=3.0)
    assert (alone.num_nodes, alone.num_edges) == (1, 0)
    batch = Batch.from_data_list([alone, pr.from_ase(atoms, cutoff=3.0), alone])
    assert batch.batch.tolist() == [0, 1, 1, 1, 2]
    conv = RelaxedConv("2x0e", "2x0e", "0e+1o", cutoff=3.0)
    assert conv(torch.ones(5, 2), batch.edge_index, edge_vectors(batch)).shape == (5, 2)


def test_every_pair_within_the_cutoff_so_the_graph_stays_connected():
    """fairchem#2117: the nearest k only."""
    chain = Atoms("H40", [[1.0 * n, 0, 0] for n in range(20)] + [[1.2 * n, 0.9, 0] for n in range(20)])
    edge_index = pr.from_ase(chain, cutoff=1.6).edge_index
    reached, new = set(), {0}
    while new:
        reached |= new
        new = set(edge_index[0][torch.isin(edge_index[1], torch.tensor(list(new)))].tolist()) - reached
    assert len(reached) == 40


def test_an_edge_at_the_cutoff_does_not_matter(float64):
    """Atomistica#30: in turned axes rounding decides whether it is there; its message is zero either way."""
    conv = RelaxedConv("2x0e", "2x0e", "0e+1o", cutoff=2.0)
    x = torch.randn(2, 2)
    for _ in range(20):
        pos = (torch.tensor([[0.0, 0, 0], [2.0, 0, 0]]) @ o3.rand_matrix().T).numpy()
        edge_index, shift = neighbour_list(pos, np.zeros((3, 3)), [False] * 3, 2.0)
        out = conv(x, edge_index, torch.tensor(vectors(pos, np.zeros((3, 3)), edge_index, shift)))
        without = conv(x, torch.empty(2, 0, dtype=torch.long), torch.empty(0, 3))
        torch.testing.assert_close(out, without, rtol=0, atol=1e-12)
