"""Small systems of every periodicity, and derivatives without autograd."""

import numpy as np
from ase import Atoms


def system(seed, pbc):
    """A few atoms, none too close, in a skewed cell of either handedness."""
    rng = np.random.default_rng(seed)
    cell = 3.0 * np.eye(3) + rng.uniform(-0.6, 0.6, (3, 3))
    cell[2] *= rng.choice([-1, 1])
    scaled = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])[: rng.integers(1, 5)]
    positions = (scaled + rng.uniform(-0.05, 0.05, scaled.shape)) @ cell
    return Atoms(rng.choice(["H", "C", "O"], len(scaled)), positions, cell=cell, pbc=pbc)


def differentiate(function, step=1e-4):
    """The derivative at 0 by Richardson's extrapolation of central differences."""
    coarse, fine = ((function(h) - function(-h)) / (2 * h) for h in (2 * step, step))
    return (4 * fine - coarse) / 3


def assert_close(found, expected, scale):
    assert np.abs(np.asarray(found) - np.asarray(expected)).max() <= 1e-7 * scale
