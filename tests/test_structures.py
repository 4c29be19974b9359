import numpy as np
import pytest
import spglib

from pyg_relaxed import structures

# space group, cell, amplitude of the polar mode GM4- in Å (CrystOD 0.4.5, AMPLIMODES convention)
FACTS = {
    "BaTiO3_Pm-3m": (221, (4.0, 4.0, 4.0, 90, 90, 90), 0.0),
    "BaTiO3_P4mm": (99, (3.9925, 3.9925, 4.0365, 90, 90, 90), 0.1362),
    "BaTiO3_Amm2": (38, (4.0184, 4.0184, 3.9841, 90, 90, 89.823), 0.1647),
    "BaTiO3_R3m": (160, (4.0036, 4.0036, 4.0036, 89.839, 89.839, 89.839), 0.1727),
}


@pytest.mark.parametrize("name", structures.NAMES)
def test_space_group_and_cell(name):
    number, cellpar, _ = FACTS[name]
    atoms = structures.load(name)
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    assert spglib.get_spacegroup_type(spglib.get_symmetry_dataset(cell, symprec=1e-3).hall_number).number == number
    np.testing.assert_allclose(atoms.cell.cellpar(), cellpar, atol=1e-3)
    assert atoms.pbc.all()
    assert atoms.get_chemical_symbols() == ["Ba", "Ti", "O", "O", "O"]
    assert np.linalg.det(atoms.cell.array) > 0


@pytest.mark.parametrize("name", structures.NAMES)
def test_the_axes_are_those_of_the_cubic_parent(name):
    cell = structures.load(name).cell.array
    np.testing.assert_allclose(cell, cell.T, atol=1e-9)  # a pure stretch of the cubic cell, no rotation


@pytest.mark.parametrize("name", structures.NAMES)
def test_polar_mode(name):
    parent, child = structures.load("BaTiO3_Pm-3m"), structures.load(name)
    shift = child.get_scaled_positions(wrap=False) - parent.get_scaled_positions(wrap=False)
    shift -= np.round(shift)
    u = (shift - shift.mean(axis=0)) @ parent.cell.array
    amplitude = np.linalg.norm(u)
    assert amplitude == pytest.approx(FACTS[name][2], abs=2e-4)  # Amm2 has 0.0056 Å of GM5- besides
    axis = {"P4mm": [0, 0, 1], "Amm2": [1, 1, 0], "R3m": [1, 1, 1]}.get(name.split("_")[1])
    if axis is not None:
        polarisation = u[1] - u[2:].mean(axis=0)
        np.testing.assert_allclose(polarisation / np.linalg.norm(polarisation), axis / np.linalg.norm(axis), atol=1e-6)


@pytest.mark.parametrize("name", structures.NAMES)
def test_header_says_where_it_comes_from(name):
    info = structures.load(name).info
    assert info["structure"] == name
    assert {"source", "doi", "values", "verified"} <= info.keys()


def test_unknown_name():
    with pytest.raises(ValueError, match="choose one of BaTiO3_Pm-3m"):
        structures.load("BaTiO3")
