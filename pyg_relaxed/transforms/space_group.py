"""The space group of a graph, by spglib, in the graph's own cell, axes and order of atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch_geometric.data import Data

from ..data import cell_map, polar_decomposition, to_numpy
from ..symmetry.crystals import symmetry_dataset


@dataclass(frozen=True)
class SpaceGroup:
    """The operations of a crystal, on fractional coordinates in its cell.

    Operation ``g`` takes ``scaled`` to ``rotations[g] @ scaled + translations[g]``, and atom ``i`` to the place of atom
    ``permutations[g, i]`` but for ``residuals[g, i]``: how far off the crystal's symmetry is there. Translations are
    chosen such that the residuals of each operation sum to zero, which makes the operations a group exactly, whatever
    the noise.

    Args:
        number (int): 1 to 230.
        symbol (str): International (Hermann-Mauguin) short symbol.
        point_group (str): Its point group.
        rotations (ndarray): Integers ``[n, 3, 3]``.
        permutations (ndarray): ``[n, N]``.
        residuals (ndarray): Fractional, ``[n, N, 3]``.
        primitive (ndarray): Rows are primitive lattice vectors, ``[3, 3]``, Å.
        classes (ndarray): Which atom of the primitive cell each atom is an image of, ``[N]``.
        standard (ndarray): Rotation ``[3, 3]`` from the Cartesian axes to the standard ones.
    """

    number: int
    symbol: str
    point_group: str
    rotations: np.ndarray
    permutations: np.ndarray
    residuals: np.ndarray
    primitive: np.ndarray
    classes: np.ndarray
    standard: np.ndarray


def crystal_of(data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cell ``[3, 3]`` (Å, rows), fractional coordinates ``[N, 3]`` (not wrapped) and numbers ``[N]`` of a graph.

    Raises:
        ValueError: If it is not periodic in three directions, or lacks atomic numbers.
    """
    cell, pbc, z = data.get("cell"), data.get("pbc"), data.get("z")
    if cell is None or pbc is None or not pbc.all():
        raise ValueError(
            f"space groups are those of crystals, with 'cell' and periodic along all its vectors: "
            f"'pbc' is {None if pbc is None else pbc.tolist()}, 'cell' is {'missing' if cell is None else 'given'}"
        )
    if z is None:
        raise ValueError(f"the graph needs atomic numbers 'z' (it has {', '.join(data.keys())})")
    lattice = to_numpy(cell, np.float64).reshape(3, 3)
    return lattice, to_numpy(data.pos, np.float64) @ np.linalg.inv(lattice), to_numpy(z)


def find_space_group(cell: np.ndarray, scaled: np.ndarray, numbers: np.ndarray, symprec: float) -> SpaceGroup:
    """Return the space group of a crystal.

    Magnetic moments and other properties of the atoms do not count.

    Args:
        cell: Lattice vectors as rows, shape ``[3, 3]``, in Å.
        scaled: Fractional coordinates, shape ``[N, 3]``.
        numbers: Atomic numbers, shape ``[N]``.
        symprec: Tolerance, in Å.

    Raises:
        ValueError: If spglib finds none, or the tolerance is too loose to tell which atom goes where.

    Example:
        >>> find_space_group(4 * np.eye(3), np.zeros((1, 3)), np.array([84]), symprec=1e-3).symbol
        'Pm-3m'
    """
    dataset = symmetry_dataset(cell, scaled, numbers, symprec)
    other = 1e6 * (numbers[:, None] != numbers)
    permutations, residuals = [], []
    for W, t in zip(dataset.rotations, dataset.translations, strict=True):
        delta = (scaled @ W.T + t)[:, None] - scaled
        delta -= np.round(delta)
        images = (np.linalg.norm(delta @ cell, axis=2) + other).argmin(axis=1)
        if len(set(images.tolist())) < len(images):
            raise ValueError(f"at symprec={symprec} Å two atoms go to one place by symmetry: give a smaller symprec")
        misfit = delta[np.arange(len(images)), images]
        permutations.append(images)
        residuals.append(misfit - misfit.mean(axis=0))
    return SpaceGroup(
        number=int(dataset.number),
        symbol=str(dataset.international),
        point_group=str(dataset.pointgroup),
        rotations=np.asarray(dataset.rotations),
        permutations=np.array(permutations),
        residuals=np.array(residuals),
        primitive=np.asarray(dataset.primitive_lattice),
        classes=np.asarray(dataset.mapping_to_primitive),
        standard=np.asarray(dataset.std_rotation_matrix),
    )


def symmetric_cell(cell: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Return the cell with the symmetry of some rotations that is a strain away: it has not turned.

    Args:
        cell: Lattice vectors as rows, nearly symmetric, shape ``[3, 3]``, in Å.
        rotations: A group, of integers, on fractional coordinates, ``[n, 3, 3]``.

    Example:
        >>> symmetric_cell(np.diag([2.0, 2.2, 3.0]), np.array([np.eye(3), [[0, 1, 0], [1, 0, 0], [0, 0, 1]]])).round(3)
        array([[2.102, 0.   , 0.   ],
               [0.   , 2.102, 0.   ],
               [0.   , 0.   , 3.   ]])
    """
    metric = np.mean(rotations.transpose(0, 2, 1) @ (cell @ cell.T) @ rotations, axis=0)
    symmetric = np.linalg.cholesky(metric) * np.sign(np.linalg.det(cell))  # in some axes, of the same handedness
    return symmetric @ polar_decomposition(cell_map(symmetric, cell))[0].T
