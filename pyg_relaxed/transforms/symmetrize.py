"""A nearly symmetric crystal made exactly symmetric, with the way back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from ..checks import check_positive
from ..data import cell_map, polar_decomposition, to_numpy
from .moved import moved, targets_to_keep
from .space_group import SpaceGroup, crystal_of, find_space_group, symmetric_cell
from .structure_transform import StructureTransform

_MAX_ROUNDS = 20  # each but the last finds a larger group, and chains of space groups are short


class Symmetrize(StructureTransform):
    r"""Move atoms and lattice vectors to the exact positions of the space group that spglib finds at ``symprec``.

    Cell choice, axes, origin and order of atoms stay: nothing is standardised. At a loose tolerance (0.3 Å, say) the
    result is the *parent* of a distorted crystal, its more symmetric structure. Applied again it changes nothing:
    the search is repeated until the group no longer grows.

    It leaves on the graph

    - ``info_space_group``, the international symbol, and ``info_space_group_number`` ``[1]``;
    - ``site_displacement`` :math:`u` ``[N, 3]``, in Å, of the original atoms from the symmetric positions, in the
      symmetric cell, with mean zero;
    - ``info_strain`` :math:`\epsilon` ``[1, 3, 3]``, symmetric, of the original cell against the symmetric one.

    The original is :math:`x = (1 + \epsilon)(x_{\text{sym}} + u)`, ``cell = cell_sym @ (1 + strain).T``, which
    :func:`unsymmetrize` returns to. Targets of the original go, edges within a ``cutoff`` are found anew. Magnetic
    moments do not count for the symmetry.

    Args:
        symprec (float, optional): Tolerance, in Å. (default: :obj:`0.01`)
        keep (iterable of str, optional): Targets that stay on purpose. (default: :obj:`()`)

    Raises:
        ValueError: If the graph is no crystal, or spglib finds nothing at ``symprec``.

    Example::

        >>> import pyg_relaxed as pr
        >>> data = pr.from_ase(pr.structures.load("BaTiO3_P4mm"))
        >>> parent = Symmetrize(symprec=0.3)(data)
        >>> parent.info_space_group, [round(u, 3) for u in parent.site_displacement[1].abs().tolist()]
        ('Pm-3m', [0.0, 0.0, 0.105])
    """

    def __init__(self, symprec: float = 0.01, keep: Iterable[str] = ()) -> None:
        check_positive("symprec", symprec)
        self.symprec, self.keep = float(symprec), targets_to_keep(keep)

    def change(self, data: Data) -> Data:
        """Return the symmetric graph."""
        original, (own, scaled, numbers) = data, crystal_of(data)
        if "site_displacement" in data and "info_strain" in data:
            original = unsymmetrize(data)  # the way back leads to where it led before
        first, target, _ = crystal_of(original)
        cell, places = own, scaled
        for _ in range(_MAX_ROUNDS):
            metric, before = cell @ cell.T, places
            cell, places, group = _step(cell, places, numbers, self.symprec)
            if np.allclose(cell @ cell.T, metric, atol=1e-12) and np.allclose(places, before, atol=1e-12):
                break
        R, U = polar_decomposition(cell_map(cell, first))
        cell = cell @ R.T  # original = cell @ (R U R^T): what remains is a strain
        found = moved(data, _like(places @ cell, data.pos), _like(cell[None], data.cell), self.keep)
        found.site_displacement = _like((target - places) @ cell, data.pos)
        found.info_strain = _like((R @ U @ R.T - np.eye(3))[None], data.pos)
        found.info_space_group = group.symbol
        found.info_space_group_number = torch.tensor([group.number], device=data.pos.device)
        return found

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(symprec={self.symprec})"


def unsymmetrize(data: Data) -> Data:
    """Return the graph that :class:`Symmetrize` was given, without the targets and the records that it took.

    It may have turned since (:func:`pyg_relaxed.data.rotate`), or been repeated: the result has, too. Displacements of
    atoms since then stay in it. After a strain, such as :class:`RandomStrain`, there is no way back.

    Args:
        data: A graph or a batch of graphs with ``site_displacement`` and ``info_strain``; it is not changed.

    Raises:
        ValueError: If they are missing, or gone with a change of the cell.

    Example:
        >>> import pyg_relaxed as pr
        >>> data = pr.from_ase(pr.structures.load("BaTiO3_R3m"), dtype=torch.float64)
        >>> torch.allclose(unsymmetrize(Symmetrize(symprec=0.3)(data)).pos, data.pos)
        True
    """
    if isinstance(data, Batch):
        return Batch.from_data_list([unsymmetrize(graph) for graph in data.to_data_list()])
    displacement, strain = data.get("site_displacement"), data.get("info_strain")
    if displacement is None or strain is None:
        raise ValueError(
            f"the graph needs 'site_displacement' and 'info_strain', which Symmetrize leaves and a change of the cell "
            f"takes away (it has {', '.join(data.keys())}): unsymmetrize before the cell changes"
        )
    F = torch.eye(3, dtype=strain.dtype, device=strain.device) + strain[0]
    return moved(data, (data.pos + displacement) @ F.T, data.cell @ F.T)


def _step(
    cell: np.ndarray, scaled: np.ndarray, numbers: np.ndarray, symprec: float
) -> tuple[np.ndarray, np.ndarray, SpaceGroup]:
    """Return a crystal (cell, fractional coordinates) with the symmetry found, and its group."""
    whole = find_space_group(cell, scaled, numbers, symprec)
    # A supercell need not have the rotations of its crystal: symmetrise a primitive cell and repeat that.
    M = np.round(cell @ np.linalg.inv(whole.primitive))
    _, atoms, images = np.unique(whole.classes, return_index=True, return_inverse=True)
    if round(abs(np.linalg.det(M))) * len(atoms) != len(numbers):
        raise ValueError(f"spglib finds no primitive cell at symprec={symprec} Å that fits: give a smaller symprec")
    inner = scaled @ M
    shifts = np.round(inner - inner[atoms][images])
    places = np.stack([(inner - shifts)[images == k].mean(axis=0) for k in range(len(atoms))])
    primitive = np.linalg.solve(M, cell)
    group = find_space_group(primitive, places, numbers[atoms], symprec)
    exact = places.copy()
    for permutation, residual in zip(group.permutations, group.residuals, strict=True):
        exact[permutation] += residual / len(group.rotations)
    return M @ symmetric_cell(primitive, group.rotations), (exact[images] + shifts) @ np.linalg.inv(M), group


def _like(array: np.ndarray, tensor: Tensor) -> Tensor:
    return torch.from_numpy(to_numpy(array)).to(tensor)
