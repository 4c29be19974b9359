"""Labelled structures for trainings."""

import ase.io
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    found = []
    for n in range(24):
        atoms = bulk(["Cu", "Au"][n % 2], cubic=True) * (1, 1, 1 + n % 3 // 2)
        atoms.rattle(0.05, seed=n)
        atoms.calc = EMT()
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    path = tmp_path_factory.mktemp("data") / "train.extxyz"
    ase.io.write(path, found)
    return path
