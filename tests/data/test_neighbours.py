from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from hypothesis import given
from hypothesis import strategies as st

from pyg_relaxed.data import neighbour_list
from pyg_relaxed.data.neighbours import _pairs, _sorted

PBC = list(product([False, True], repeat=3))


def brute_force(pos, cell, pbc, cutoff):
    """Every pair and every image that could matter, one by one."""
    reach = [0, 0, 0]
    if any(pbc):
        rows = cell[list(pbc)]
        # |n_k| <= |d + cutoff| * |dual_k|, for any two atoms wherever they lie
        duals = np.linalg.norm(np.linalg.pinv(rows), axis=0)
        extent = cutoff + max(np.linalg.norm(a - b) for a in pos for b in pos)
        for k, dual in zip(np.flatnonzero(pbc), duals, strict=True):
            reach[k] = int(np.ceil(extent * dual))
    shifts = np.array(list(product(*[range(-r, r + 1) for r in reach])))
    edges = []
    for i, j in product(range(len(pos)), repeat=2):
        vectors = pos[j] - pos[i] + shifts @ cell
        near = np.linalg.norm(vectors, axis=1) < cutoff
        edges += [(i, j, *s) for s in shifts[near].tolist() if i != j or any(s)]
    return sorted(edges)


def as_tuples(edge_index, shift):
    return [(i, j, *s) for (j, i), s in zip(edge_index.T.tolist(), shift.tolist(), strict=True)]


def random_structure(seed):
    """A skewed cell, tiny, large or left-handed, with atoms in it, around it and far from it."""
    rng = np.random.default_rng(seed)
    while True:
        cell = rng.normal(size=(3, 3)) * rng.choice([0.8, 2.0, 5.0])
        if abs(np.linalg.det(cell)) > 0.15 * np.prod(np.linalg.norm(cell, axis=1)):
            break
    cell[2] *= rng.choice([-1, 1])
    num_atoms = int(rng.integers(1, 6))
    return rng.uniform(-rng.choice([0.5, 3.0]), 2.0, (num_atoms, 3)) @ cell, cell, num_atoms


@pytest.mark.parametrize("pbc", PBC)
@pytest.mark.parametrize("block", range(5))
def test_against_brute_force(pbc, block):
    for seed in range(8 * block, 8 * block + 8):
        pos, cell, _ = random_structure(seed)
        cutoff = 1.5 if abs(np.linalg.det(cell)) < 3 else 3.5
        found = as_tuples(*neighbour_list(pos, cell, pbc, cutoff))
        assert found == brute_force(pos, cell, pbc, cutoff), (seed, pbc)  # sorted by receiver, sender, shift


@pytest.mark.parametrize("pbc", PBC)
def test_against_ase(pbc):
    for seed in range(100, 104):
        pos, cell, num_atoms = random_structure(seed)
        i, j, shift = neighbor_list("ijS", Atoms(f"H{num_atoms}", pos, cell=cell, pbc=pbc), 2.0)
        expected = sorted(zip(i.tolist(), j.tolist(), *shift.T.tolist(), strict=True))
        assert as_tuples(*neighbour_list(pos, cell, pbc, 2.0)) == expected


def skewed_structure(seed):
    """Angles of 10 to 170 degrees, edges from flat to long, either handedness, 1 to 8 atoms anywhere."""
    rng = np.random.default_rng([1, seed])
    pbc = np.array(PBC[seed % len(PBC)])
    while True:
        lengths, angles = rng.uniform(0.8, 6.0, 3), np.radians(rng.uniform(10.0, 170.0, 3))
        G = np.cos([[0, angles[2], angles[1]], [angles[2], 0, angles[0]], [angles[1], angles[0], 0]])
        G[np.diag_indices(3)] = 1.0
        if np.linalg.eigvalsh(G).min() < 1e-3:  # three angles that close no cell
            continue
        turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # of either determinant
        cell = lengths[:, None] * np.linalg.cholesky(G) @ turned
        num_atoms = int(rng.integers(1, 9))
        pos = rng.uniform(-1.5, 2.5, (num_atoms, 3)) @ cell
        cutoff = rng.uniform(0.3, 1.3) * lengths.max()
        if np.prod(2 * reach_of(pos, cell, pbc, cutoff) + 1) * num_atoms**2 < 3e5:
            return pos, cell, pbc, cutoff


def reach_of(pos, cell, pbc, cutoff):
    """How many images along each vector can matter, for any two atoms wherever they lie."""
    reach = np.zeros(3, dtype=int)
    extent = cutoff + max(np.linalg.norm(a - b) for a in pos for b in pos)
    reach[pbc] = np.ceil(extent * np.linalg.norm(np.linalg.pinv(cell[pbc]), axis=0))
    return reach


@pytest.mark.parametrize("block", range(8))
def test_skewed_cells_against_brute_force(block):
    """Two thousand of them."""
    for seed in range(250 * block, 250 * block + 250):
        pos, cell, pbc, cutoff = skewed_structure(seed)
        shifts = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach_of(pos, cell, pbc, cutoff)], indexing="ij"))
        shifts = shifts.reshape(3, -1).T
        distances = np.linalg.norm((pos[None] - pos[:, None])[:, :, None] + shifts @ cell, axis=-1)
        near = (distances < cutoff) & ((np.eye(len(pos)) == 0)[:, :, None] | shifts.any(axis=1))
        i, j, s = np.nonzero(near)
        edge_index, edge_cell_shift = neighbour_list(pos, cell, pbc, cutoff)
        assert edge_index.numpy().tolist() == [j.tolist(), i.tolist()], seed
        assert np.array_equal(edge_cell_shift.numpy(), shifts[s]), seed


def test_both_directions():
    pos, cell, _ = random_structure(3)
    edges = set(as_tuples(*neighbour_list(pos, cell, [True, True, False], 4.0)))
    assert edges == {(j, i, -a, -b, -c) for i, j, a, b, c in edges}


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.diag([4.0, 0, 0]), np.ones((3, 3)), np.diag([0.01, 0.01, 0.01])])
def test_rows_without_pbc_are_not_looked_at(cell):
    pos = np.array([[0.0, 0, 0], [1.0, 0, 0], [7.0, 0, 0]])
    edge_index, shift = neighbour_list(pos, cell, [False] * 3, 2.0)
    assert edge_index.tolist() == [[1, 0], [0, 1]]
    assert not shift.any()


def test_slab_without_third_vector():
    edge_index, shift = neighbour_list([[0.0, 0, 0]], np.diag([2.0, 2.0, 0.0]), [True, True, False], 2.5)
    assert edge_index.tolist() == [[0] * 4, [0] * 4]
    assert shift.tolist() == [[-1, 0, 0], [0, -1, 0], [0, 1, 0], [1, 0, 0]]


def test_one_atom_in_a_tiny_cell_keeps_its_images():
    edge_index, _ = neighbour_list([[0.1, 0.2, 0.3]], 0.9 * np.eye(3), [True] * 3, 5.0)
    points = np.array(list(product(range(-6, 7), repeat=3))) * 0.9
    assert edge_index.shape[1] == (np.linalg.norm(points, axis=1) < 5.0).sum() - 1


@pytest.mark.parametrize("far", [1e3, 1e6])
def test_atoms_far_from_the_cell(far):
    pos, cell = np.array([[0.2, 0.1, 0.0], [1.5, 1.4, 1.6]]), 3.0 * np.eye(3)
    home = neighbour_list(pos, cell, [True] * 3, 4.0)
    pos[1, 0] += 3.0 * far
    away = neighbour_list(pos, cell, [True] * 3, 4.0)
    assert torch.equal(home[0], away[0])
    vectors = [pos[e[0]] - pos[e[1]] + s.numpy() @ cell for e, s in (home, away)]
    assert np.linalg.norm(vectors[1], axis=1).max() < 4.0


def test_isolated_atom_and_nothing():
    edge_index, shift = neighbour_list([[0.0, 0.0, 0.0]], np.zeros((3, 3)), [False] * 3, 5.0)
    assert edge_index.shape == (2, 0)
    assert shift.shape == (0, 3)
    assert edge_index.dtype == shift.dtype == torch.int64
    assert neighbour_list(np.empty((0, 3)), np.zeros((3, 3)), [False] * 3, 5.0)[0].shape == (2, 0)


def test_inputs_are_not_changed_and_may_be_tensors():
    pos, cell = torch.tensor([[0.0, 0, 0], [9.0, 0, 0]], requires_grad=True), torch.diag(torch.tensor([2.0, 2.0, 0.0]))
    before = pos.detach().clone(), cell.clone()
    from_tensors = neighbour_list(pos, cell, torch.tensor([True, True, False]), 2.5)
    from_arrays = neighbour_list(before[0].numpy(), before[1].numpy(), [True, True, False], 2.5)
    assert torch.equal(pos, before[0])
    assert torch.equal(cell, before[1])
    assert all(torch.equal(a, b) for a, b in zip(from_tensors, from_arrays, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_position_not_finite(value):
    with pytest.raises(ValueError, match=r"atom 1 has position \[0.0, .*, 0.0\]"):
        neighbour_list([[0.0, 0, 0], [0.0, value, 0]], np.eye(3), [False] * 3, 5.0)


@pytest.mark.parametrize("pos", [np.zeros(3), np.zeros((2, 2))])
def test_position_shape(pos):
    with pytest.raises(ValueError, match=r"'pos' must have shape \(N, 3\)"):
        neighbour_list(pos, np.eye(3), [False] * 3, 5.0)


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.ones((3, 3)), np.diag([1.0, 1.0, 0.0]), np.diag([0.1, 0.1, 0])])
def test_periodic_cell_without_volume(cell):
    with pytest.raises(ValueError, match=r"span no volume: set pbc to False"):
        neighbour_list([[0.0, 0, 0]], cell, [True] * 3, 5.0)


def test_cell_not_finite():
    with pytest.raises(ValueError, match=r"finite lattice vectors"):
        neighbour_list([[0.0, 0, 0]], np.diag([1.0, 1.0, np.nan]), [True] * 3, 5.0)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan"), float("inf")])
def test_cutoff(cutoff):
    with pytest.raises(ValueError, match=r"'cutoff' must be a positive, finite distance"):
        neighbour_list([[0.0, 0, 0]], np.eye(3), [False] * 3, cutoff)


def test_a_cutoff_below_what_vesin_takes_finds_nothing():
    pos, box = [[0.0, 0, 0], [0.5, 0, 0]], np.eye(3)
    assert neighbour_list(pos, box, [True, False, False], 1e-9)[0].shape == (2, 0)


def test_atoms_on_top_of_each_other():
    with pytest.raises(ValueError, match=r"atoms 0 and 2 are 0.0002 Å apart"):
        neighbour_list([[0.0, 0, 0], [1.0, 1, 1], [0.0, 0, 2e-4]], np.zeros((3, 3)), [False] * 3, 5.0)
    with pytest.raises(ValueError, match=r"atoms 0 and 1 are .* apart"):  # through the boundary of the cell
        neighbour_list([[0.0, 0, 0], [4.0, 8.0, -4.0]], 4 * np.eye(3), [True] * 3, 2.0)


def test_atom_on_top_of_its_own_image():
    with pytest.raises(ValueError, match=r"atom 0 and its own periodic image are 0.0005 Å apart"):
        neighbour_list([[0.0, 0, 0]], [[1.0, 0, 0], [1.0, 5e-4, 0], [0, 0, 1.0]], [True, True, False], 0.5)
    with pytest.raises(ValueError, match=r"periodic vector shorter than 1e-3 Å"):
        neighbour_list([[0.0, 0, 0]], np.diag([5e-4, 1.0, 1.0]), [True, False, False], 5.0)


def batch_of(seeds):
    structures = [random_structure(seed) for seed in seeds]
    pos = np.concatenate([pos for pos, _, _ in structures])
    batch = np.repeat(np.arange(len(structures)), [n for _, _, n in structures])
    pbc = np.array([PBC[seed % len(PBC)] for seed in seeds])
    return pos, np.stack([cell for _, cell, _ in structures]), pbc, batch


def test_a_batch_is_its_structures_one_after_the_other():
    pos, cell, pbc, batch = batch_of(range(200, 208))
    edge_index, shift = neighbour_list(pos, cell, pbc, 2.0, batch)
    expected = []
    for n in range(len(cell)):
        begin = int(np.searchsorted(batch, n))
        alone = as_tuples(*neighbour_list(pos[batch == n], cell[n], pbc[n], 2.0))
        expected += [(i + begin, j + begin, *s) for i, j, *s in alone]
    assert as_tuples(edge_index, shift) == expected


def test_structures_without_atoms_and_batches_without_structures():
    cell, pbc = np.stack([2 * np.eye(3)] * 3), np.ones((3, 3), dtype=bool)
    edge_index, _ = neighbour_list([[0.0, 0, 0]], cell, pbc, 2.5, [2])
    assert edge_index.tolist() == [[0] * 6, [0] * 6]
    edge_index, shift = neighbour_list(
        np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, 3), bool), 2.5, np.empty(0, int)
    )
    assert (edge_index.shape, shift.shape) == ((2, 0), (0, 3))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([0, 1, 0], "'batch' falls from 1 at atom 1 to 0 at atom 2"),  # PyG would join structures silently
        ([0, 1, 2], "'batch' names structures 0 to 2, but there are 2 cells"),
        ([-1, 0, 1], "'batch' names structures -1 to 1"),
        ([0, 1], r"'batch' must be integers of shape \(3,\)"),
        ([0.0, 1.0, 1.0], "'batch' must be integers"),
    ],
)
def test_batch(batch, message):
    pos = [[0.0, 0, 0], [3.0, 0, 0], [6.0, 0, 0]]
    with pytest.raises(ValueError, match=message):
        neighbour_list(pos, np.stack([np.eye(3)] * 2), np.zeros((2, 3), dtype=bool), 1.5, batch)


def test_errors_of_a_batch_name_the_structure():
    pos, batch = [[0.0, 0, 0], [3.0, 0, 0], [3.0, 0, 1e-4]], [0, 1, 1]
    cell, pbc = np.stack([np.eye(3), np.zeros((3, 3))]), np.zeros((2, 3), dtype=bool)
    with pytest.raises(ValueError, match="structure 1 of the batch: atoms 0 and 1 are"):
        neighbour_list(pos, cell, pbc, 1.5, batch)
    with pytest.raises(ValueError, match="structure 1 of the batch: 'pbc' is"):
        neighbour_list(pos, cell, ~pbc, 1.5, batch)


@given(st.integers(1, 5), st.sampled_from([2, 2**9, 2**30]), st.randoms(use_true_random=False), st.integers(0, 40))
def test_edges_are_in_order_wherever_their_atoms_were(num_atoms, far, random, num_edges):
    home = [[random.randint(-far, far) for _ in range(3)] for _ in range(num_atoms)]
    i, j = ([random.randrange(num_atoms) for _ in range(num_edges)] for _ in range(2))
    shift = [[random.randint(-3, 3) for _ in range(3)] for _ in range(num_edges)]
    expected = [
        (a, b, *(s + x - y for s, x, y in zip(n, home[a], home[b], strict=True)))
        for a, b, n in zip(i, j, shift, strict=True)
    ]
    columns = np.array(i, int), np.array(j, int), np.array(shift, np.int32).reshape(-1, 3)
    for few_or_many in (columns, [torch.from_numpy(column) for column in columns]):
        found = _sorted(*few_or_many, np.array(home, dtype=float), [3.0, 3.0, 3.9])
        assert as_tuples(*found) == sorted(expected)


class WithoutGPU:
    """A search that fails on tensors, as vesin on a GPU, and answers to arrays."""

    def __init__(self, message):
        self.message = message

    def compute(self, points, *_, **__):
        if isinstance(points, torch.Tensor):
            raise RuntimeError(self.message)
        return np.zeros(1, np.uint64), np.ones(1, np.uint64), np.zeros((1, 3), np.int32), np.ones(1)


@pytest.mark.parametrize(
    ("message", "falls_back"),
    [
        ("Failed to load libnvrtc.so. Try appending the directory containing this library", True),
        ("The number of neighbor pairs exceeds the maximum capacity of 64", True),
        ("CUDA out of memory. Tried to allocate 20.00 GiB", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_only_what_a_gpu_cannot_do_is_done_on_the_cpu(message, falls_back, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor)
    search, cuda = WithoutGPU(message), torch.device("cuda")
    if falls_back:
        assert [len(column) for column in _pairs(search, np.zeros((2, 3)), np.eye(3), cuda)] == [1] * 4
    else:
        with pytest.raises(RuntimeError, match=message):
            _pairs(search, np.zeros((2, 3)), np.eye(3), cuda)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("pbc", PBC)
def test_a_gpu_finds_the_same(pbc):
    for seed in range(40):
        pos, cell, _ = random_structure(seed)
        found = neighbour_list(torch.tensor(pos, device="cuda"), cell, pbc, 3.5)
        assert all(t.is_cuda for t in found)
        assert all(torch.equal(a.cpu(), b) for a, b in zip(found, neighbour_list(pos, cell, pbc, 3.5), strict=True))
