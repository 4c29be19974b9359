"""Larger cells of the same crystal."""

from __future__ import annotations

import copy
import itertools
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import Data

from ..data import level_of, to_numpy
from .radius_graph import RadiusGraph, edge_attributes
from .structure_transform import StructureTransform

_EXTENSIVE: Final = ("energy", "free_energy", "dipole", "polarizability", "charge", "magmom")


class Supercell(StructureTransform):
    r"""Repeat a crystal: the new lattice vectors are ``matrix @ cell``, as in :func:`ase.build.make_supercell`.

    Everything per atom is repeated, image by image (the first N atoms are those of the image at the origin), with the
    index of the atom each is an image of in ``site_primitive`` ``[n N]``. Energies, dipole, polarizability, charge and
    magnetic moment are n times as large, n being the determinant; the spins add up in parallel (:math:`2 S n + 1`).
    Stress, polarization and tensors of the material stay. Edges, if there are any, are found anew within ``cutoff``,
    and attributes of the old ones go, as in :class:`RadiusGraph`.

    Args:
        matrix (int, tuple or array): How often along each lattice vector, one number for all, three, or an integer
            matrix ``[3, 3]`` of positive determinant. (The handedness of the cell stays: negate a row of a matrix that
            would change it.)

    Raises:
        ValueError: If it is none of that; for a graph without ``cell``, one repeated along a lattice vector that is not
            periodic, and edges without ``cutoff``.

    Example::

        >>> data = Data(pos=torch.zeros(1, 3), cell=torch.eye(3)[None], pbc=torch.ones(1, 3).bool(), energy=-1.0)
        >>> double = Supercell((1, 1, 2))(data)
        >>> double.pos.tolist(), double.energy, double.site_primitive.tolist()
        ([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], -2.0, [0, 0])
    """

    def __init__(self, matrix: int | npt.ArrayLike | Tensor) -> None:
        given = to_numpy(matrix)
        whole = np.round(given.astype(np.float64)) if given.dtype.kind in "iuf" and np.isfinite(given).all() else None
        if whole is None or not np.array_equal(whole, given) or given.shape not in ((), (3,), (3, 3)):
            raise ValueError(f"'matrix' must be an integer, three, or 3 x 3 of them (got {given.tolist()})")
        integers = whole.astype(np.int64)
        self.matrix = integers if integers.ndim == 2 else integers * np.eye(3, dtype=np.int64)
        if round(np.linalg.det(self.matrix)) <= 0 or (integers.ndim < 2 and (integers <= 0).any()):
            raise ValueError(
                f"'matrix' {given.tolist()} must have a positive determinant, or positive numbers: negate one row of a "
                "matrix that would turn a right-handed cell into a left-handed one"
            )

    def change(self, data: Data) -> Data:
        """Return the larger graph."""
        self._check(data)
        cell = data.cell.reshape(3, 3)
        points = torch.from_numpy(lattice_points(self.matrix)).to(cell)
        n, num_atoms = len(points), len(data.pos)
        found = copy.copy(data)
        stale = {"frac_coords", *edge_attributes(data)}
        for name, value in data.to_dict().items():
            if name in stale:
                del found[name]
            elif level_of(name) == "node" or (level_of(name) is None and data.is_node_attr(name)):
                found[name] = _repeated(value, n)
            elif name in _EXTENSIVE:
                found[name] = n * value
        found.pos = found.pos + (points @ cell).repeat_interleave(num_atoms, dim=0)
        found.cell = (torch.from_numpy(self.matrix).to(cell) @ cell)[None]
        if data.get("spin") is not None:
            found.spin = n * (data.spin - 1) + 1
        if "num_nodes" in data:
            found.num_nodes = n * num_atoms
        if "site_primitive" not in data:  # else its repetition names the atoms of the first cell
            found.site_primitive = torch.arange(num_atoms, device=found.pos.device).repeat(n)
        return RadiusGraph(data.cutoff.item())(found) if data.get("edge_index") is not None else found

    def _check(self, data: Data) -> None:
        cell, pbc = data.get("cell"), data.get("pbc")
        if cell is None or pbc is None:
            raise ValueError(
                "a supercell needs 'cell' of shape (1, 3, 3) and 'pbc' of shape (1, 3): this is a molecule"
            )
        if data.get("edge_index") is not None and data.get("cutoff") is None:
            raise ValueError(
                "the graph has edges but no 'cutoff' to find those of the supercell within: apply RadiusGraph(cutoff), "
                "or delete edge_index"
            )
        for i in np.flatnonzero(~to_numpy(pbc, bool).reshape(3)):
            unit = np.arange(3) == i
            if (self.matrix[i] != unit).any() or (self.matrix[:, i] != unit).any():
                raise ValueError(
                    f"lattice vector {i} is not periodic ('pbc' is {pbc.tolist()}), but {self.matrix.tolist()} repeats "
                    "along it: give 1 there"
                )

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.matrix.tolist()})"


def lattice_points(matrix: np.ndarray) -> np.ndarray:
    """Return the lattice points in a supercell, in units of the lattice vectors of the small cell, the origin first.

    Args:
        matrix: Integers of positive determinant n, shape ``[3, 3]``; rows are the lattice vectors of the supercell.

    Returns:
        Integers, shape ``[n, 3]``.

    Example:
        >>> lattice_points(np.array([[1, 1, 0], [-1, 1, 0], [0, 0, 1]])).tolist()
        [[0, 0, 0], [0, 1, 0]]
    """
    n = round(np.linalg.det(matrix))
    adjugate = np.round(n * np.linalg.inv(matrix)).astype(np.int64)  # integers: no point is lost at a face
    corners = np.array(list(itertools.product((0, 1), repeat=3))) @ matrix
    grid = np.indices(np.ptp(corners, axis=0) + 1).reshape(3, -1).T + corners.min(axis=0)
    scaled = grid @ adjugate
    inside = grid[((scaled >= 0) & (scaled < n)).all(axis=1)]
    order = np.lexsort([*inside.T[::-1], np.abs(inside).sum(axis=1) > 0])
    return inside[order]


def _repeated(value: Any, n: int) -> Any:
    return torch.cat([value] * n) if isinstance(value, Tensor) else list(value) * n
