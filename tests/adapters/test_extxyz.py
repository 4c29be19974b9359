"""What a structure holds goes through a file, or is left out, but spoils nothing else."""

import io
from datetime import date
from fractions import Fraction

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given
from hypothesis import strategies as st

from pyg_relaxed.adapters import from_ase
from pyg_relaxed.adapters.extxyz import for_extxyz, to_extxyz


def through_a_file(atoms):
    return ase.io.read(io.StringIO(to_extxyz(atoms)), format="extxyz")


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
    "float32": np.float32(0.1),
    "unsigned": np.arange(3, dtype=np.uint8),
    "beyond_32_bits": 2**40,
    "flags": np.array([[True, False], [False, True]]),
    "not_a_number": np.nan,
    "quotes": """it's "so\"""",
    "equal": "a=b",
    "ü": "ß",
    "two words": 1,
    "texts": ["one two", "three"],
    "words": np.array(["one two", "three"]),
    "dictionary": {"a": 1, "b": [1, 2], "c": None},
    "virial": np.arange(9.0).reshape(3, 3),
    "uid": "007",
    "ragged": {"a": [[1, 2], [3]]},
    "numpy": {"a": np.int64(4)},
    "numbers": [np.int64(1), np.float32(0.5)],
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
    "path": "C:\\calc\\",
    "_JSON": "_JSON [1]",
    "quotes": ['a "b"'],
    "dictionary": {"a": "\\"},
    "too_large": "123e456",
    "": 4,
    "a=b": 4,
    "Lattice": np.eye(3).ravel(),
    "Properties": "species:S:1",
    "pbc": "T T T",
    "virial": np.arange(6.0),
    "a\nb": 4,
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


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=4), values, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.text(max_size=5), ANYTHING, max_size=4))
def test_nothing_spoils_what_comes_after_it(info):
    """Nothing that a structure holds can do harm to what is written behind it, or come back as something else."""
    water = molecule("H2O")
    water.info = info | {"predicted_energy": -1.5}
    found = through_a_file(water)
    assert found.info["predicted_energy"] == -1.5
    assert set(found.info) <= set(info) | {"predicted_energy", "REF_stress"}
    for key in set(found.info) & set(info):
        if not isinstance(info[key], str):
            np.testing.assert_array_equal(np.ravel(found.info[key]), np.ravel(info[key]))
        elif isinstance(found.info[key], str):
            assert found.info[key] == info[key]
    np.testing.assert_allclose(found.positions, water.positions, rtol=0, atol=1e-8)
    assert found.symbols.get_chemical_formula() == "H2O"


@pytest.mark.parametrize("where", ["info", "results"])
def test_a_stress_keeps_its_nine_numbers(where):
    copper = bulk("Cu")
    whole = np.arange(9.0).reshape(3, 3)
    for stress in (np.arange(6.0), whole, whole.tolist(), np.eye(3), np.eye(3).tolist()):
        if where == "info":
            copper.info = {"stress": stress}
        else:
            copper.calc = SinglePointCalculator(copper)
            copper.calc.results["stress"] = stress
        assert from_ase(through_a_file(copper), 3.0).stress.equal(from_ase(copper, 3.0).stress)


def test_results_that_ase_has_no_name_for_are_kept():
    water = molecule("H2O")
    water.calc = SinglePointCalculator(water, energy=1.0)
    water.calc.results |= {"polarizability": np.eye(3), "mine": 3}
    found = through_a_file(water)
    assert found.get_potential_energy() == 1.0
    assert found.info["mine"] == 3
    np.testing.assert_array_equal(from_ase(found, 3.0).polarizability[0], np.eye(3))


def test_columns_that_cannot_be_told_apart_are_an_error():
    water = molecule("H2O")
    water.arrays |= {"a": np.ones((3, 2)), "a1": np.ones(3)}
    with pytest.raises(ValueError, match="a1"):
        to_extxyz(water)


@pytest.mark.parametrize(
    ("name", "values", "is_kept"),
    [
        ("tensors", np.arange(27.0).reshape(3, 3, 3), True),
        ("words", np.array(["a", "b", "c"]), True),
        ("flags", np.array([True, False, True]), True),
        ("texts", np.array(["a b", "c", ""]), False),
        ("a:b", np.ones(3), False),
        ("a b", np.ones(3), False),
        ("", np.ones(3), False),
        ("'", np.ones(3), False),
        ("é", np.ones(3), True),
        ("bytes", np.arange(3, dtype=np.uint8), True),
        ("large", np.array([0, 1, 2**33]), False),
        ("none", np.ones((3, 0)), False),
        ("stress", np.ones((3, 6)), False),
        *((name, np.arange(3), False) for name in ("Z", "symbols", "species", "pos", "charge", "move_mask")),
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
    copper.info = {5: 2, 6: 1, "6": 2, "energy": 1.0, "momenta": 3}
    copper.arrays["forces"] = np.zeros((1, 3))
    copper.calc = SinglePointCalculator(copper, energy=2.0, forces=np.ones((1, 3)))
    found = through_a_file(copper)
    assert found.info == {"5": 2, "6": 2, "momenta": 3}
    assert found.get_potential_energy() == 2.0
    assert found.get_forces().tolist() == [[1.0, 1.0, 1.0]]
    copper.positions += 0.1
    with pytest.warns(UserWarning, match="belong to other positions"):
        found = for_extxyz(copper)
    assert found.calc is None


@pytest.mark.parametrize("virial", [np.eye(3), np.eye(3).tolist()])
def test_a_virial_comes_back_whatever_held_it(virial):
    copper = bulk("Cu")
    copper.info = {"virial": virial, "stress": [[1, 2], [3]]}
    found = through_a_file(copper).info
    assert list(found) == ["virial"]
    np.testing.assert_array_equal(found["virial"], np.eye(3))
