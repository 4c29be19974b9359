import warnings

import numpy as np
import pytest
from ase.build import bulk

import pyg_relaxed as pr
from pyg_relaxed.o3 import point_groups
from pyg_relaxed.symmetry.crystals import primitive_cell, symmetry_dataset
from pyg_relaxed.transforms import Symmetrize


def crystal(atoms):
    return atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers


def test_the_primitive_cell_keeps_its_axes():
    cube, cell = bulk("Cu", cubic=True), bulk("Cu")
    cube.rotate(30, (1, 2, 3), rotate_cell=True)
    cell.rotate(30, (1, 2, 3), rotate_cell=True)
    found, _, numbers = primitive_cell(*crystal(cube), 0.01)
    assert numbers.tolist() == [29]
    change = found @ np.linalg.inv(cell.cell.array)
    np.testing.assert_allclose(change, np.round(change), atol=1e-8)


@pytest.mark.parametrize("ask", [symmetry_dataset, primitive_cell])
def test_what_has_no_symmetry_is_explained(ask):
    with pytest.raises(ValueError, match=r"no space group of 2 atoms at symprec=0.01 Å: give a smaller one"):
        ask(4 * np.eye(3), np.zeros((2, 3)), np.ones(2, dtype=int), 0.01)


def test_the_warnings_of_spglib_reach_nobody():
    point_groups._crystallographic.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        symmetry_dataset(*crystal(bulk("Cu")), 0.01)
        primitive_cell(*crystal(bulk("Cu")), 0.01)
        Symmetrize(0.01)(pr.from_ase(bulk("Cu"), cutoff=3.0))
        assert pr.symmetry.point_group("m-3m").hermann_mauguin == "m-3m"
