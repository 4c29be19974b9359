"""Child onto parent: which atom is which, the displacement of each, the strain of the cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..data import cell_map, polar_decomposition
from ..symmetry.crystals import primitive_cell

if TYPE_CHECKING:
    from ase import Atoms

LENGTH_TOLERANCE, ANGLE_TOLERANCE = 0.2, 10.0  # of lattice vectors, relative and degrees


@dataclass(frozen=True)
class Mapping:
    """A child in its parent's frame.

    Args:
        parent (Atoms): The parent's primitive cell.
        displacement (ndarray): Of each parent atom, ``[N, 3]``, Å, mean zero, in the parent's frame.
        strain (ndarray): Symmetric ``[3, 3]``: the stretch of the cell map minus 1.
        rotation (ndarray): Element of O(3), ``[3, 3]``, from the parent's frame to the child's axes; proper unless an
            improper operation of the parent was needed to reach the canonical domain.
    """

    parent: Atoms
    displacement: np.ndarray
    strain: np.ndarray
    rotation: np.ndarray

    @property
    def cost(self) -> float:
        """Root mean square displacement, strain counted over the mean cell edge, Å."""
        edge = abs(np.linalg.det(self.parent.cell.array)) ** (1 / 3)
        return float(np.sqrt((self.displacement**2).sum(1).mean() + ((edge * self.strain) ** 2).sum()))


def primitive(atoms: Atoms, symprec: float = 0.01) -> Atoms:
    """Return the primitive cell in the axes of ``atoms``.

    Raises:
        ValueError: If the structure is not periodic in three directions, or spglib cannot find its symmetry.
    """
    if not atoms.pbc.all():
        raise ValueError(f"discovery needs crystals: pbc is {atoms.pbc.tolist()}")
    lattice, scaled, numbers = primitive_cell(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, symprec)
    frame = {name: atoms.info[name] for name in ("frame",) if name in atoms.info}
    return type(atoms)(numbers=numbers, scaled_positions=scaled, cell=lattice, pbc=True, info=frame)


def _formula(atoms: Atoms) -> str:
    return atoms.symbols.formula.reduce()[0].format("metal")


def map_child(parent: Atoms, child: Atoms, symprec: float = 0.01) -> Mapping:
    """Find the closest way to see the child as its distorted parent.

    Every choice of the child's lattice vectors near the parent's is tried, and for each the origin and the assignment
    of atoms that move them least. The child may be in any setting, axes, origin and order of atoms.

    Args:
        parent (Atoms): The high-symmetry crystal.
        child (Atoms): The distorted crystal.
        symprec (float, optional): Tolerance for the primitive cells, Å. (default: :obj:`0.01`)

    Raises:
        ValueError: If the child is another compound, needs a supercell of the parent, or does not fit.
    """
    parent, child = primitive(parent, symprec), primitive(child, symprec)
    if _formula(parent) != _formula(child):
        raise ValueError(f"parent {_formula(parent)} and child {_formula(child)} are different compounds")
    if len(child) > len(parent):
        raise ValueError(
            f"the child's primitive cell has {len(child)} atoms, the parent's {len(parent)}: it needs a supercell of "
            f"the parent (a distortion away from the zone centre), which this version does not treat"
        )
    if len(child) < len(parent):
        raise ValueError(f"the child's primitive cell has {len(child)} atoms, fewer than the parent's {len(parent)}")
    mappings = [_map_cell(parent, child, lattice) for lattice in _lattices(parent, child)]
    if not mappings:
        raise ValueError(
            f"no lattice of the child lies within {LENGTH_TOLERANCE:.0%} and {ANGLE_TOLERANCE}° of the parent's"
        )
    # Of equally close ones the one that turns the child least.
    return min(mappings, key=lambda mapping: (round(mapping.cost, 6), -round(np.trace(mapping.rotation), 6)))


def _lattices(parent: Atoms, child: Atoms) -> list[np.ndarray]:
    from pymatgen.core import Lattice

    found = Lattice(child.cell.array).find_all_mappings(
        Lattice(parent.cell.array), ltol=LENGTH_TOLERANCE, atol=ANGLE_TOLERANCE, skip_rotation_matrix=True
    )
    sign = np.sign(np.linalg.det(parent.cell.array))
    return [lattice.matrix for lattice, _, _ in found if np.sign(np.linalg.det(lattice.matrix)) == sign]


def _map_cell(parent: Atoms, child: Atoms, lattice: np.ndarray) -> Mapping:
    rotation, stretch = polar_decomposition(cell_map(parent.cell.array, lattice))
    scaled = child.positions @ np.linalg.inv(lattice)
    reference = parent.get_scaled_positions()
    # Origins: one atom of the rarest species onto each of that species.
    rarest = min(set(parent.numbers), key=lambda z: ((parent.numbers == z).sum(), z))
    anchor = scaled[child.numbers == rarest][0]
    best, smallest = None, np.inf
    for target in reference[parent.numbers == rarest]:
        displacement = _assign(parent, child, scaled - anchor + target, stretch)
        size = float((displacement**2).sum())
        if size < smallest:
            best, smallest = displacement, size
    if best is None:
        raise ValueError(f"no atom of {rarest} in the parent")
    return Mapping(parent, best, stretch - np.eye(3), rotation)


def _assign(parent: Atoms, child: Atoms, scaled: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """Return the displacement of each parent atom for one origin, which is then moved to the mean."""
    cell = parent.cell.array
    delta = scaled[None] - parent.get_scaled_positions()[:, None]
    delta = (delta - np.round(delta)) @ (cell @ stretch)
    distance = (delta**2).sum(2) + 1e6 * (parent.numbers[:, None] != child.numbers[None])
    rows, columns = linear_sum_assignment(distance)
    displacement = delta[rows, columns]
    return displacement - displacement.mean(0)
