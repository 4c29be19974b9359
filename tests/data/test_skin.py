"""Along any trajectory the list with a skin is the list without one, edge for edge."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_relaxed.data import SkinNeighbourList, neighbour_list

PBC = list(product([False, True], repeat=3))


def trajectory(rng, pbc, step, strain, num_steps=12):
    """Atoms that move and drift in a cell that changes shape; now and then they are wrapped, as some codes do."""
    cell = rng.normal(size=(3, 3)) + np.diag([4.0, -3.5, 5.0])
    pos = rng.uniform(-0.5, 1.5, (6, 3)) @ cell
    drift = rng.normal(size=3)
    for n in range(num_steps):
        yield pos.copy(), cell.copy()
        F = np.eye(3) + strain * rng.normal(size=(3, 3))
        pos, cell = pos @ F + step * rng.normal(size=pos.shape) + drift, cell @ F
        if n == 7:
            pos = pos - np.where(pbc, np.floor(pos @ np.linalg.inv(cell)), 0.0) @ cell


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    *(st.integers(0, 2**32 - 1), st.sampled_from(PBC)),
    *(st.sampled_from([0.0, 0.02, 0.2]), st.sampled_from([0.0, 0.01, 0.1]), st.sampled_from([0.1, 1.0, 3.0])),
)
def test_no_edge_is_missed(seed, pbc, step, strain, skin):
    search = SkinNeighbourList(cutoff=3.0, skin=skin)
    for pos, cell in trajectory(np.random.default_rng(seed), np.array(pbc), step, strain):
        found, expected = search(pos, cell, pbc), neighbour_list(pos, cell, pbc, 3.0)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_it_searches_only_when_it_must():
    rng = np.random.default_rng(0)
    search = SkinNeighbourList(cutoff=3.0, skin=1.0)
    for pos, cell in trajectory(rng, np.zeros(3), 0.01, 0.0):  # a drift of the whole is no movement
        search(pos, cell, [False] * 3)
    assert search.num_searches == 1
    search(pos[:-1], cell, [False] * 3)
    search(pos[:-1], cell, [True, False, False])
    assert search.num_searches == 3


def test_the_bound_is_tight_enough_to_matter():
    """An atom that comes from just outside the skin's reach by exactly what is allowed is seen at the next step."""
    search = SkinNeighbourList(cutoff=2.0, skin=0.5)
    far, near = [[0.0, 0, 0], [2.6, 0, 0]], [[0.31, 0, 0], [2.29, 0, 0]]
    assert search(far, np.zeros((3, 3)), [False] * 3)[0].shape[1] == 0
    assert search(near, np.zeros((3, 3)), [False] * 3)[0].shape[1] == 2


def test_no_atoms_have_no_edges():
    search = SkinNeighbourList(2.0, 0.5)
    for _ in range(2):
        assert search(np.empty((0, 3)), np.eye(3), [True] * 3)[0].shape == (2, 0)
    assert search.num_searches == 1


@pytest.mark.parametrize("skin", [0.0, -1.0, float("nan"), float("inf")])
def test_skin(skin):
    with pytest.raises(ValueError, match="'skin' must be a positive, finite distance"):
        SkinNeighbourList(3.0, skin)


def test_bad_input_loses_nothing():
    search = SkinNeighbourList(2.0, 0.5)
    before = search([[0.0, 0, 0], [1.5, 0, 0]], np.zeros((3, 3)), [False] * 3)
    with pytest.raises(ValueError, match="atom 1 has position"):
        search([[0.0, 0, 0], [np.nan, 0, 0]], np.zeros((3, 3)), [False] * 3)
    with pytest.raises(ValueError, match="atoms 0 and 1 are"):
        search([[0.75, 0, 0], [0.75, 0, 0]], np.zeros((3, 3)), [False] * 3)
    after = search([[0.0, 0, 0], [1.5, 0, 0]], np.zeros((3, 3)), [False] * 3)
    assert torch.equal(before[0], after[0])
