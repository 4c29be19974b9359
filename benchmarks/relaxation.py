"""Relaxation of many structures: in batches beside ASE's FIRE, one structure at a time.

    python benchmarks/relaxation.py [--number N] [--steps N]

BaTiO3 crystals of 5 atoms, thermally disordered, and small organic molecules; every structure takes the same number of
steps (``fmax`` is 0), so that both sides do the same work. No weight is trained: it is the time that counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import graphs
import numpy as np
import timing
import torch
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

import pyg_relaxed as pr
from pyg_relaxed.calculators import RelaxedCalculator, evaluate, relax
from pyg_relaxed.models import RelaxedPotential

SPECIES = ("H", "C", "N", "O", "Ti", "Ba")
HIDDEN = "32x0e+32x1o+32x2e"


def crystals(number: int) -> list[Atoms]:
    """Return crystals of 5 atoms, each disordered in its own way."""
    found = [pr.structures.load("BaTiO3_Pm-3m") for _ in range(number)]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed)
    return found


def molecules(number: int) -> list[Atoms]:
    """Return the first small organic molecules of the G2 set, over and over."""
    found = [molecule(name) for name in g2.names]
    found = [atoms for atoms in found if set(atoms.symbols) <= set("CHON") and len(atoms) >= 5]
    return [found[n % len(found)].copy() for n in range(number)]


def potential() -> RelaxedPotential:
    """Return a potential whose repulsion keeps atoms apart."""
    torch.manual_seed(0)
    return RelaxedPotential(SPECIES, graphs.CUTOFF, irreps_hidden=HIDDEN, energy_scale=0.01, repulsion=True)


def one_at_a_time(model: RelaxedPotential, structures: Sequence[Atoms], steps: int, cell: bool) -> list[float]:
    """Return the energies after so many steps of ASE's FIRE, one structure after the other."""
    energies, calculator = [], RelaxedCalculator(model)
    for atoms in structures:
        atoms = atoms.copy()
        atoms.calc = calculator
        FIRE(FrechetCellFilter(atoms) if cell else atoms, logfile=None).run(fmax=0, steps=steps)
        energies.append(atoms.get_potential_energy())
    return energies


def together(model: RelaxedPotential, structures: Sequence[Atoms], steps: int, cell: bool) -> list[float]:
    """Return the same energies by relaxing many structures at once."""
    found = relax(model, structures, cell=cell, fmax=0, steps=steps)
    return [one.atoms.get_potential_energy() for one in found]


def evaluated_one_at_a_time(model: RelaxedPotential, structures: Sequence[Atoms]) -> list[float]:
    """Return the energies by the calculator, one structure after the other."""
    calculator = RelaxedCalculator(model)
    return [calculator.get_potential_energy(atoms) for atoms in structures]


def evaluated(model: RelaxedPotential, structures: Sequence[Atoms]) -> list[float]:
    """Return the energies in batches."""
    return [one.atoms.get_potential_energy() for one in evaluate(model, structures)]


def compare(title: str, ours: Callable[[], list[float]], ase: Callable[[], list[float]], rounds: int) -> None:
    """Print the times of both, and how far their energies are apart."""
    difference = np.abs(np.subtract(ours(), ase())).max()
    timing.show(title, timing.alternate({"ASE, one at a time": ase, "pyg-relaxed": ours}, rounds))
    print(f"\nLargest difference of energies: {difference:.1e} eV")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=32, help="of structures (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="of each (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of measurements (default: %(default)s)")
    options = parser.parse_args()
    timing.machine()
    model = potential()
    for name, structures in (
        ("crystals of 5 atoms", crystals(options.number)),
        ("molecules", molecules(options.number)),
    ):
        title = f"{options.number} {name}"
        compare(
            f"{title}: evaluation",
            lambda structures=structures: evaluated(model, structures),
            lambda structures=structures: evaluated_one_at_a_time(model, structures),
            options.rounds,
        )
        for cell in [False, True] if structures[0].pbc.all() else [False]:
            arguments = (model, structures, options.steps, cell)
            compare(
                f"{title}: {options.steps} steps{' with the cell' if cell else ''}",
                lambda arguments=arguments: together(*arguments),
                lambda arguments=arguments: one_at_a_time(*arguments),
                options.rounds,
            )


if __name__ == "__main__":
    main()
