"""No finite input ends the process: huge spreads, needles and flakes, every periodicity."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_relaxed.data import neighbour_list
from pyg_relaxed.data.neighbours import _without_gaps, complete_cell

PBC = list(product([False, True], repeat=3))
CHAIN = [[0, 0, 0], [6000, 0, 0]], [[0, 0, 0], [0, 0, 0], [-2.6, -4.6, 7.5]]  # has ended processes within vesin
REFUSED = ("would have about", "on top of each other", "span no volume")


def structure(seed):
    """Atoms in clusters up to 1e7 Å apart, in cells with edges from 1 to 1e5 Å, tilted, flat and left-handed."""
    rng = np.random.default_rng([7, seed])
    num_atoms, num_clusters = int(rng.integers(1, 25)), int(rng.integers(1, 6))
    spread = 10 ** rng.uniform(-3, 7, 3) if rng.random() < 0.5 else 10 ** rng.uniform(-3, 7)
    centres = rng.uniform(-1, 1, (num_clusters, 3)) * spread
    pos = centres[rng.integers(0, num_clusters, num_atoms)] + rng.normal(size=(num_atoms, 3)) * rng.choice([0.5, 3.0])
    shape = rng.normal(size=(3, 3))
    shape[2] = shape[0] + rng.choice([1.0, 1e-2, 1e-4]) * shape[2]
    cell = 10 ** rng.uniform(0, 5, (3, 1)) * shape / np.linalg.norm(shape, axis=1, keepdims=True)
    return pos, cell, np.array(PBC[seed % len(PBC)]), 10 ** rng.uniform(-1, 1)


def check(pos, cell, pbc, cutoff):
    """Compare with every image of every pair, but for those within rounding of the cutoff; tell if they were few."""
    try:
        edge_index, shift = neighbour_list(pos, cell, pbc, cutoff)
    except ValueError as error:
        if not any(reason in str(error) for reason in REFUSED):
            raise
        return False
    rows = cell[pbc]
    vectors = pos[edge_index[0]] - pos[edge_index[1]] + shift.numpy()[:, pbc] @ rows
    assert np.linalg.norm(vectors, axis=1).max(initial=0.0) < cutoff + 1e-6
    assert not shift.numpy()[:, ~pbc].any()
    found = {tuple(edge) for edge in np.concatenate([edge_index.numpy()[::-1].T, shift.numpy()], axis=1).tolist()}
    assert len(found) == edge_index.shape[1]
    dual = np.linalg.pinv(rows)
    around = [np.arange(-r, r + 1) for r in np.ceil(cutoff * np.linalg.norm(dual, axis=0)).astype(int) + 1]
    images = np.stack(np.meshgrid(*around, indexing="ij"), axis=-1).reshape(-1, len(rows)) if len(rows) else [[]]
    if len(images) * len(pos) ** 2 > 1e6:
        return False
    vectors = pos - pos[:, None]
    shifts = np.array(images, dtype=int) - np.round(vectors @ dual).astype(int)[:, :, None]
    distances = np.linalg.norm(vectors[:, :, None] + shifts @ rows, axis=-1)
    near = (distances < cutoff - 1e-6) & ((np.eye(len(pos)) == 0)[:, :, None] | shifts.any(axis=-1))
    i, j, n = np.nonzero(near)
    full = np.zeros((len(i), 3), int)
    full[:, pbc] = shifts[i, j, n]
    assert found >= set(map(tuple, np.column_stack([i, j, full]).tolist()))
    return True


def check_all(number):
    assert sum(check(*structure(seed)) for seed in range(number)) > 0.8 * number


@pytest.mark.parametrize("code", [f"neighbour_list(*{CHAIN}, [False, False, True], 5.0)", "check_all(150)"])
def test_nothing_ends_the_process(code):
    code = f"from test_neighbour_extremes import check_all, neighbour_list; {code}"
    run = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


@given(st.integers(0, 2**32 - 1), st.floats(-1, 7), st.sampled_from(PBC[:-1]), st.floats(0.1, 10))
def test_gaps_along_open_directions_are_closed(seed, magnitude, pbc, gap):
    """What is searched is never wider than a gap for each atom, and who was near stays as near."""
    rng, pbc = np.random.default_rng(seed), np.array(pbc)
    box = complete_cell(rng.normal(size=(3, 3)), pbc)
    pos = rng.uniform(0, 1, (20, 3)) * 10 ** np.where(pbc, 0.0, magnitude) @ box
    closed, widths = _without_gaps(pos, box, np.full(3, 7.0), pbc, gap)
    assert (widths[pbc] == 7.0).all()
    assert (widths[~pbc] < 20 * gap).all()
    before, after = (np.abs((x - x[:, None]) @ box[~pbc].T).max(axis=-1) for x in (pos, closed))
    np.testing.assert_allclose(after[before < gap], before[before < gap], atol=1e-8)
    assert (after[before > gap] > gap * (1 - 1e-6)).all()
