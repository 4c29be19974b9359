"""Labelled crystals, data sets of them, and what shows that they were processed."""

import time

import ase.io
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from torch_geometric.transforms import BaseTransform

from pyg_relaxed.datasets import AtomsDataset

CUTOFF = 4.0


def labelled(number=6, elements=("Cu", "Au")):
    """Return crystals with energies, forces and stresses of EMT."""
    found = []
    for n in range(number):
        atoms = bulk(elements[n % len(elements)], cubic=True) * (1, 1, 1 + n % 2)
        atoms.rattle(0.05, seed=n)
        atoms.calc = EMT()
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def dataset(source, *args, **kwargs):
    return AtomsDataset(source, CUTOFF, *args, progress=False, dtype=torch.float64, **kwargs)


def assert_equal(found, expected):
    """Check graphs, up to attributes that a file cannot keep."""
    assert len(found) == len(expected)
    for graph, wanted in zip(found, expected, strict=True):
        for name in ("z", "pos", "cell", "pbc", "edge_index", "edge_cell_shift", "energy", "forces", "stress"):
            torch.testing.assert_close(graph[name], wanted[name], rtol=0, atol=1e-7, msg=name)


def write_extxyz(path):
    ase.io.write(path / "all.extxyz", labelled(), format="extxyz", columns=["symbols", "positions", "forces"])
    return path / "all.extxyz"


class Logged(BaseTransform):
    """Write a line for each graph, to see what is processed."""

    def __init__(self, log, seconds=0.0):
        self.log, self.seconds = str(log), seconds

    def forward(self, data):
        with open(self.log, "a") as file:
            file.write(f"{data.energy.item()}\n")
        time.sleep(self.seconds)
        return data

    def __repr__(self):
        return "Logged()"


def lines(path):
    return path.read_text().splitlines() if path.exists() else []
