import numpy as np
import pytest

from pyg_relaxed.data import cell_map, frame_of_file, is_standard_cell, polar_decomposition


@pytest.mark.parametrize("name", ["a.cif", "dir/B.CIF", "a.cif.gz", "a.mcif", "x.pdb", "data.bto", "bto.lmp", "a.res"])
def test_files_without_axes(name):
    assert frame_of_file(name) == "standard"


@pytest.mark.parametrize(
    "name",
    ["POSCAR", "CONTCAR", "a.vasp", "a.extxyz", "a.xyz", "md.traj", "a.json", "vasprun.xml", "a.db", "cif/POSCAR"],
)
def test_files_with_axes(name):
    assert frame_of_file(name) == "cartesian"


def rotation(rng):
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.linalg.det(q)


@pytest.mark.parametrize("seed", range(20))
def test_polar_decomposition(seed):
    rng = np.random.default_rng(seed)
    F = rng.normal(size=(3, 3))
    F *= np.sign(np.linalg.det(F))
    R, U = polar_decomposition(F)
    np.testing.assert_allclose(R @ U, F, atol=1e-12)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)
    assert np.array_equal(U, U.T)
    assert (np.linalg.eigvalsh(U) > 0).all()


@pytest.mark.parametrize("seed", range(10))
def test_a_turned_and_strained_child_comes_home(seed):
    rng = np.random.default_rng(seed)
    parent = 4 * np.eye(3) + 0.5 * rng.normal(size=(3, 3))
    R, strain = rotation(rng), 0.02 * rng.normal(size=(3, 3))
    U = np.eye(3) + (strain + strain.T) / 2
    child = parent @ (R @ U).T
    F = cell_map(parent, child)
    np.testing.assert_allclose(F, R @ U, atol=1e-10)
    found_R, found_U = polar_decomposition(F)
    np.testing.assert_allclose(found_R, R, atol=1e-10)
    np.testing.assert_allclose(found_U, U, atol=1e-10)
    np.testing.assert_allclose(child @ found_R, parent @ found_U, atol=1e-10)


def test_left_handed_cells_map_onto_each_other():
    parent = np.diag([2.0, 2.0, -2.0])
    R, U = polar_decomposition(cell_map(parent, parent @ rotation(np.random.default_rng(0)).T))
    assert np.linalg.det(R) == pytest.approx(1)
    np.testing.assert_allclose(U, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("F", [np.diag([1.0, 1.0, -1.0]), np.zeros((3, 3)), np.eye(2), np.full((3, 3), np.nan)])
def test_polar_decomposition_refuses(F):
    with pytest.raises(ValueError, match="'F' must be a 3 x 3 map of positive determinant"):
        polar_decomposition(F)


def test_cell_map_refuses():
    with pytest.raises(ValueError, match=r"'parent' cell .* has no volume"):
        cell_map(np.zeros((3, 3)), np.eye(3))


def test_standard_cells():
    from ase.cell import Cell
    from pymatgen.core import Lattice

    six = (3, 4, 5, 70, 80, 95)
    assert is_standard_cell(Cell.fromcellpar(six).array)
    assert is_standard_cell(Lattice.from_parameters(*six).matrix)
    assert not is_standard_cell(Cell.fromcellpar(six).array @ rotation(np.random.default_rng(1)))
    assert not is_standard_cell(np.zeros((3, 3)))
