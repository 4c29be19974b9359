"""What a structure holds goes through a file, or is left out, but spoils nothing else."""

import io
from datetime import date
from fractions import Fraction

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from pyg_relaxed.adapters.extxyz import for_extxyz


def through_a_file(atoms):
    file = io.StringIO()
    ase.io.write(file, for_extxyz(atoms), format="extxyz")
    file.seek(0)
    return ase.io.read(file, format="extxyz")


FIT = {
    "number": -1.5,
    "count": 7,
    "is_so": True,
    "text": "two words",
    "vector": np.array([1.0, 2.0]),
    "matrix": np.arange(9.0).reshape(3, 3),
    "long": np.arange(10.0).reshape(5, 2),
    "rank_3": np.arange(27.0).reshape(3, 3, 3),
    "names": np.array(["one", "two"]),
}
DO_NOT_FIT = {
    "empty": "",
    "blank": " ",
    "lines": "one\ntwo",
    "return": "one\rtwo",
    "nothing": np.array([]),
    "ragged": [[1, 2], [3]],
    "complex": 1j,
    "complexes": np.array([1j]),
    "bytes": b"x",
    "none": None,
    "set": {1, 2},
    "object": Fraction(1, 2),
    "date": date(2026, 1, 1),
    "words": np.array(["one two", "three"]),
}


@pytest.mark.parametrize("name", FIT)
def test_what_fits_comes_back(name):
    water = molecule("H2O")
    water.info = {name: FIT[name], "last": 5}
    found = through_a_file(water).info
    assert set(found) == {name, "last"}
    np.testing.assert_array_equal(found[name], FIT[name])


@pytest.mark.parametrize("name", DO_NOT_FIT)
def test_what_does_not_fit_takes_nothing_with_it(name):
    water = molecule("H2O")
    water.info = {"first": 4, name: DO_NOT_FIT[name], "last": 5}
    assert through_a_file(water).info == {"first": 4, "last": 5}


@pytest.mark.parametrize(
    ("name", "values", "is_kept"),
    [
        ("tensors", np.arange(27.0).reshape(3, 3, 3), True),
        ("words", np.array(["a", "b", "c"]), True),
        ("flags", np.array([True, False, True]), True),
        ("texts", np.array(["a b", "c", ""]), False),
        ("a:b", np.ones(3), False),
        ("complex", np.ones(3) * 1j, False),
        ("objects", np.array([None, 1, 2]), False),
    ],
)
def test_arrays_of_atoms(name, values, is_kept):
    water = molecule("H2O")
    water.set_array(name, values)
    water.set_array("last", np.arange(3))
    found = through_a_file(water).arrays
    assert found["last"].tolist() == [0, 1, 2]
    assert (name in found) is is_kept
    if is_kept:
        np.testing.assert_array_equal(found[name].reshape(values.shape), values)


def test_keys_that_are_no_text_and_names_of_results():
    copper = bulk("Cu")
    copper.info = {5: 2, "energy": 1.0, "momenta": 3}
    copper.arrays["forces"] = np.zeros((1, 3))
    copper.calc = SinglePointCalculator(copper, energy=2.0, forces=np.ones((1, 3)))
    found = through_a_file(copper)
    assert found.info["5"] == 2
    assert found.get_potential_energy() == 2.0
    assert found.get_forces().tolist() == [[1.0, 1.0, 1.0]]
    copper.positions += 0.1
    with pytest.warns(UserWarning, match="belong to other positions"):
        found = for_extxyz(copper)
    assert found.calc is None
