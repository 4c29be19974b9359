"""Make a data set: molecules in a uniform electric field that nobody tells the model, labelled by GFN2-xTB.

    pip install tblite
    python examples/materials/make_molecules_in_field.py --num-structures 1000 --field 0 0 0.005 --out field.extxyz

Each frame is one of the molecules, its atoms displaced at random, turned by a random rotation, at the origin. The field
is the same in all: a strict network sees only the molecule, and cannot learn how the energy depends on its direction.
Energy (eV), forces (eV/Å) and dipole moment (e·Å) are results of a ``SinglePointCalculator``, as
``pyg_relaxed.from_ase`` reads them. The same command writes the same bytes.

The field is what a relaxed network has to find. It stands in ``info["hidden_field"]`` (V/Å) and
``info["hidden_field_au"]`` for comparison afterwards: never make it an input. Methane, without dipole, is the control.
Ions have ``info["charge"]``; the field pulls them away from the origin, to which their energies and dipoles refer.
With ``--strengths`` each frame is in a field of its own, of a random direction, in ``info["electric_field"]`` (V/Å): an
input. One core labels 770 molecules a second; 1000 frames of the four take 0.81 MB.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree
from scipy.spatial.transform import Rotation
from tqdm import tqdm

TEACHER = "GFN2-xTB (tblite)"
ACCURACY = 0.01  # of the self-consistent cycle, 100 times as tight as tblite's own: forces to 1e-5 eV/Å
NAMES = {"C2H5OH": "CH3CH2OH", "ethanol": "CH3CH2OH"}  # what ase.build.molecule calls them
# Ions by the molecule of the same shape: its name, their elements, charge, and how much shorter the bonds are.
IONS = {"NH4+": ("CH4", "NH4", 1, 0.945), "H3O+": ("NH3", "OH3", 1, 0.967)}

# %% Options
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument(
    *("--molecules",),
    nargs="+",
    default=["H2O", "NH3", "C2H5OH", "CH4"],
    help=f"names of ase.build.molecule, or {', '.join(IONS)}",
)
parser.add_argument("--field", type=float, nargs=3, default=(0, 0, 0.005), help="atomic units (default: 0 0 0.005)")
parser.add_argument("--strengths", type=float, nargs="+", help="of fields that are known, in turn, atomic units")
parser.add_argument("--num-structures", type=int, default=1000, help="(default: %(default)s)")
parser.add_argument("--displacement", type=float, default=0.05, help="standard deviation, Å (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
parser.add_argument("--out", type=Path, required=True, help="extended XYZ file")


def main() -> None:
    options = parser.parse_args()
    if options.num_structures < 1:
        parser.error("--num-structures must be positive")
    try:
        parents = [named(name) for name in options.molecules]
    except KeyError as error:
        parser.error(f"ase.build.molecule has no {error}")
    for name, parent in zip(options.molecules, parents, strict=True):
        if parent.get_initial_magnetic_moments().any():
            parser.error(f"{name} has unpaired electrons: only closed shells are labelled")
    rng = np.random.default_rng(options.seed)
    partial = options.out.with_name(options.out.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    for n in tqdm(range(options.num_structures), unit="structure"):
        atoms = turned(parents[n % len(parents)], options.displacement, rng)
        field = np.array(options.field, dtype=float)
        if options.strengths:
            direction = rng.normal(size=3)
            strength = options.strengths[n // len(parents) % len(options.strengths)]
            field = strength * direction / np.linalg.norm(direction)
        atoms.calc = label(atoms, field)
        atoms.info["teacher"] = TEACHER
        if options.strengths:
            atoms.info["electric_field"] = field * Hartree / Bohr
        else:
            atoms.info |= {"hidden_field": field * Hartree / Bohr, "hidden_field_au": field}
        ase.io.write(partial, atoms, format="extxyz", append=True)
    partial.replace(options.out)


def named(name: str) -> Atoms:
    """Return a molecule of ASE's or an ion, whose charge is in ``info``.

    Raises:
        KeyError: If there is none of this name.
    """
    if name not in IONS:
        return molecule(NAMES.get(name, name))
    shape, elements, charge, scale = IONS[name]
    return Atoms(elements, scale * molecule(shape).positions, info={"charge": charge})


def turned(parent: Atoms, displacement: float, rng: np.random.Generator) -> Atoms:
    """Return a molecule with displaced atoms, turned by a random rotation, its centre of mass at the origin."""
    positions = parent.positions + rng.normal(scale=displacement, size=(len(parent), 3))
    atoms = Atoms(parent.numbers, positions, info=dict(parent.info))
    atoms.positions -= atoms.get_center_of_mass()
    atoms.positions = Rotation.random(rng=rng).apply(atoms.positions)  # proper ones: a mirror would change the hand
    return atoms


def label(atoms: Atoms, field: Sequence[float] | np.ndarray) -> SinglePointCalculator:
    """Label a molecule in a field (atomic units), by tblite itself: the field of its ASE calculator is broken.

    Raises:
        ValueError: For periodic structures, in which a uniform field has no potential.
    """
    if atoms.pbc.any():
        raise ValueError(f"a uniform field in a periodic structure is not defined (pbc is {atoms.pbc.tolist()})")
    try:
        from tblite.interface import Calculator
    except ImportError:
        raise SystemExit("this needs tblite: pip install tblite") from None

    xtb = Calculator("GFN2-xTB", atoms.numbers, atoms.positions / Bohr, charge=atoms.info.get("charge", 0.0))
    xtb.set("verbosity", 0)
    xtb.set("accuracy", ACCURACY)
    xtb.add("electric-field", [float(component) for component in field])  # a plain list, or cffi refuses
    found = xtb.singlepoint()
    return SinglePointCalculator(
        atoms,
        energy=float(found.get("energy")) * Hartree,
        forces=-found.get("gradient") * Hartree / Bohr,
        dipole=found.get("dipole") * Bohr,
    )


if __name__ == "__main__":
    main()
