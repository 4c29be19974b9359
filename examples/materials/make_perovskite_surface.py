"""Make a data set: the potential-energy surface of a cubic perovskite, labelled by CHGNet 0.3.0.

    pip install torch==2.13.0 && pip install chgnet
    python examples/materials/make_perovskite_surface.py --material BaTiO3 --num-structures 500 --out surface.extxyz

Each frame is the relaxed cubic cell plus white noise on every atom, a random symmetric strain and a random fraction of
one distortion of the whole crystal, so that the wells are covered and not just the saddle point between them: the polar
mode along <001>, <011> or <111> or, where the supercell has an even number of cells in each direction to hold it, a
tilt of the octahedra. Energy (eV), forces (eV/Å) and stress (eV/Å^3, tension positive) are results of a
``SinglePointCalculator``, as ``pyg_relaxed.from_ase`` reads them. The same command writes the same bytes.

CHGNet is a network trained on PBE, exact in O(3), and no DFT: it stands in ``info["teacher"]`` of every frame.
One core labels 23 structures of 5 atoms a second, 2.4 of 40; 500 frames of 5 atoms take 0.56 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from tqdm import tqdm

TEACHER = "CHGNet 0.3.0"
# Lattice constant (Å) that the teacher relaxes the cubic crystal to; the largest displacements (Å) of A, B and O along
# a polar mode, and the largest tilt (degrees): somewhat beyond the teacher's wells, or beyond kT where it has none.
MATERIALS = {
    "BaTiO3": (4.037, (0.02, 0.16, -0.10), 4.0),
    "PbTiO3": (3.975, (0.22, 0.15, -0.15), 10.0),
    "CaTiO3": (3.889, (0.01, 0.10, -0.06), 16.0),
    "SrTiO3": (3.944, (0.01, 0.08, -0.05), 6.0),
}
AXES = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1]]) / np.sqrt([[1], [2], [3]])

# %% Options
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--material", choices=MATERIALS, default="BaTiO3")
parser.add_argument("--num-structures", type=int, default=500, help="(default: %(default)s)")
parser.add_argument("--supercell", type=int, nargs=3, default=(1, 1, 1), metavar="N", help="(default: 1 1 1)")
parser.add_argument("--displacement", type=float, default=0.03, help="standard deviation, Å (default: %(default)s)")
parser.add_argument("--strain", type=float, default=0.02, help="standard deviation (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
parser.add_argument("--out", type=Path, required=True, help="extended XYZ file")


def main() -> None:
    options = parser.parse_args()
    if options.num_structures < 1 or min(options.supercell) < 1:
        parser.error("--num-structures and --supercell must be positive")
    label = teacher()
    rng = np.random.default_rng(options.seed)
    parent, units = cubic(options.material, options.supercell)
    partial = options.out.with_name(options.out.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    for _ in tqdm(range(options.num_structures), unit="structure"):
        atoms = distorted(parent, units, options, rng)
        atoms.calc = label(atoms)
        ase.io.write(partial, atoms, format="extxyz", append=True)
    partial.replace(options.out)


def teacher():
    """Return the function that labels a structure."""
    try:
        from chgnet.model import CHGNet
    except ImportError:
        raise SystemExit("this needs CHGNet: pip install torch==2.13.0, then pip install chgnet") from None
    from pymatgen.io.ase import AseAtomsAdaptor

    with contextlib.redirect_stdout(io.StringIO()):
        model = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)

    def label(atoms: Atoms) -> SinglePointCalculator:
        found = model.predict_structure(AseAtomsAdaptor.get_structure(Atoms(atoms)), task="efs")
        return SinglePointCalculator(
            atoms,
            energy=float(found["e"]) * len(atoms),  # the model's is per atom
            forces=np.asarray(found["f"], dtype=np.float64),
            stress=full_3x3_to_voigt_6_stress(np.asarray(found["s"], dtype=np.float64)) * ase.units.GPa,
        )

    return label


def cubic(material: str, supercell: tuple[int, int, int]) -> tuple[Atoms, np.ndarray]:
    """Return the cubic crystal, unit cell after unit cell, and the integer place of each unit cell."""
    a = MATERIALS[material][0]
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    unit = Atoms(material, scaled_positions=places, cell=[a] * 3, pbc=True)
    units = np.array(list(itertools.product(*map(range, supercell))))
    return unit * tuple(supercell), units


def distorted(parent: Atoms, units: np.ndarray, options: argparse.Namespace, rng: np.random.Generator) -> Atoms:
    """Return the parent with noise on the atoms, a strain, and a random part of a polar or a tilt mode."""
    _, shift, tilt = MATERIALS[options.material]
    axis = AXES[rng.integers(3)][rng.permutation(3)] * rng.choice([-1, 1], 3)
    fraction = rng.uniform()
    atoms = parent.copy()
    mode = "polar"
    if not np.any(np.array(options.supercell) % 2) and rng.integers(2):
        mode = "tilt"
        atoms.positions += rotations(
            units, np.deg2rad(fraction * tilt) * axis, parent.cell[0, 0] / options.supercell[0]
        )
    else:
        along = [shift[0], shift[1], *[shift[2]] * 3]  # A, B and the oxygens of each unit cell
        atoms.positions += fraction * np.outer(along * len(units), axis)
    atoms.positions += rng.normal(scale=options.displacement, size=atoms.positions.shape)
    noise = rng.normal(scale=options.strain, size=(3, 3))
    atoms.set_cell(parent.cell.array @ (np.eye(3) + (noise + noise.T) / 2), scale_atoms=True)
    atoms.info = {"teacher": TEACHER, "mode": mode, "mode_axis": axis, "mode_fraction": fraction}
    return atoms


def rotations(units: np.ndarray, vector: np.ndarray, a: float) -> np.ndarray:
    """Return the displacements of octahedra turned by a small vector, with alternating signs along every axis."""
    arms = np.array([[0, 0, 0], [0, 0, 0], [0, 0, -0.5], [0, -0.5, 0], [-0.5, 0, 0]]) * a  # from B to its oxygens
    return np.concatenate([(-1) ** unit.sum() * np.cross(vector, arms) for unit in units])


if __name__ == "__main__":
    main()
