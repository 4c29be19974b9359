"""The displacements of a crystal at the zone centre, by irrep of its point group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import Data

from ..data import to_numpy
from ..symmetry import PointGroup, PointGroupIrrep, point_group, point_group_irreps
from .space_group import SpaceGroup, crystal_of, find_space_group
from .symmetrize import Symmetrize


@dataclass(frozen=True, eq=False)
class SymmetryMode:
    """One copy of an irrep among the displacements of a crystal.

    Args:
        irrep (PointGroupIrrep): Its matrices say how the components turn.
        vectors (Tensor): Displacements ``[dim, N, 3]``, one for each component of the irrep, in the axes of the
            crystal: orthonormal, over all atoms, within the mode and to all other modes.
        is_acoustic (bool): Whether it moves the crystal as a whole.
    """

    irrep: PointGroupIrrep
    vectors: Tensor
    is_acoustic: bool

    @property
    def label(self) -> str:
        """Mulliken symbol of the irrep, e.g. ``"T1u"``."""
        return self.irrep.label

    def along(self, direction: npt.ArrayLike) -> Tensor:
        """Return the displacement ``[N, 3]``, of norm 1, along a direction in the space of the irrep.

        Args:
            direction (array): One number for each component, of any length but zero, e.g. ``[1, 1, 0]`` in T1u.

        Raises:
            ValueError: If it is not that.
        """
        components = torch.as_tensor(to_numpy(direction, np.float64)).to(self.vectors)
        if components.shape != self.vectors.shape[:1] or not components.norm() > 0:
            raise ValueError(
                f"'direction' must be {len(self.vectors)} numbers, not all zero, one for each component of "
                f"{self.label} (got {components.tolist()})"
            )
        return torch.tensordot(components / components.norm(), self.vectors, dims=1)

    def __repr__(self) -> str:
        acoustic = ", acoustic" if self.is_acoustic else ""
        return f"{self.__class__.__name__}({self.label}, dim {len(self.vectors)}{acoustic})"


def symmetry_modes(data: Data, symprec: float = 0.01) -> tuple[SymmetryMode, ...]:
    """Return the symmetry-adapted displacements of a crystal at the zone centre, irrep by irrep.

    Together they are a basis of all displacements that are the same in each primitive cell: 3 N vectors, for N atoms in
    that. Of each irrep the acoustic copy comes first. Several optical copies of one irrep are one choice among many:
    they are made of the displacements of the first atoms first.

    Args:
        data: One graph of a crystal, in its primitive or conventional cell.
        symprec: Tolerance of the symmetry, in Å: the modes are those of :class:`Symmetrize` (``symprec``) of the graph.

    Raises:
        ValueError: If the graph is no crystal, spglib finds nothing, or the cell has not the symmetry of the crystal.

    Example:
        >>> import pyg_relaxed as pr
        >>> cubic = pr.from_ase(pr.structures.load("BaTiO3_Pm-3m"))
        >>> symmetry_modes(cubic)[0], sum(mode.label == "T1u" for mode in symmetry_modes(cubic))
        (SymmetryMode(T1u, dim 3, acoustic), 4)
    """
    # A measured structure is symmetric to a tolerance only; its operations and standard axes are to be exact.
    bare = Data(**{name: data[name] for name in ("z", "pos", "cell", "pbc") if name in data})
    cell, scaled, numbers = crystal_of(Symmetrize(symprec)(bare))
    found = find_space_group(cell, scaled, numbers, symprec)
    group, D = _representation(found, cell)
    num_atoms = len(numbers)
    translations = np.tile(np.eye(3), num_atoms) / np.sqrt(num_atoms)
    acoustic = translations.T @ translations
    modes = []
    for irrep in point_group_irreps(group.conjugate(found.standard)):
        for is_acoustic, subspace in ((True, acoustic), (False, np.eye(3 * num_atoms) - acoustic)):
            for copy in _copies(irrep, D, subspace):
                vectors = torch.from_numpy(copy.reshape(irrep.dim, num_atoms, 3)).to(data.pos)
                modes.append(SymmetryMode(irrep, vectors, is_acoustic))
    return tuple(modes)


def _representation(found: SpaceGroup, cell: np.ndarray) -> tuple[PointGroup, np.ndarray]:
    """Return the point group in Cartesian axes, and the matrices ``[n, 3 N, 3 N]`` by which it turns displacements."""
    columns = cell.T
    operations = columns @ found.rotations @ np.linalg.inv(columns)
    group = PointGroup.from_operations(operations)
    if len(group) != len(point_group(found.point_group)):
        raise ValueError(
            f"the cell has {len(group)} of the {len(point_group(found.point_group))} operations of point group "
            f"{found.point_group}: it is a supercell of another shape, give a primitive or conventional cell"
        )
    num_atoms = found.permutations.shape[1]
    D = np.zeros((len(group), 3 * num_atoms, 3 * num_atoms))
    for k, R in enumerate(group.operations):
        same = np.abs(operations - R).max(axis=(1, 2)) < 1e-3
        # The mean over the lattice translations within the cell leaves the zone centre.
        for images in found.permutations[same]:
            shift = np.zeros((num_atoms, num_atoms))
            shift[images, np.arange(num_atoms)] = 1 / same.sum()
            D[k] += np.kron(shift, R)
    return group, D


def _copies(irrep: PointGroupIrrep, D: np.ndarray, subspace: np.ndarray) -> list[np.ndarray]:
    """Return orthonormal rows ``[dim, d]`` of each copy of an irrep in an invariant subspace (its projector)."""
    transfers = irrep.transfers(D)
    candidates = transfers[0] @ subspace
    copies: list[np.ndarray] = []
    for candidate in candidates.T:
        first = candidate
        for rows in (*copies, *copies):  # twice, for the digits
            first = first - rows.T @ (rows @ first)
        if np.linalg.norm(first) > 1e-3:
            components = np.stack([T.T @ first for T in transfers])
            copies.append(components / np.linalg.norm(components, axis=1, keepdims=True))
    return copies
