"""Who is within the cutoff of whom: one function over vesin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checks import check_cell, check_cutoff, check_distances, check_positions
from .arrays import to_numpy


def neighbour_list(
    pos: Tensor | npt.ArrayLike, cell: Tensor | npt.ArrayLike, pbc: Tensor | npt.ArrayLike, cutoff: float
) -> tuple[Tensor, Tensor]:
    """List every directed pair within ``cutoff``, self-images included, sorted by receiver, then sender, then shift.

    Complete (no largest number of neighbours), both directions, no self-edge of zero length. Atoms may lie anywhere;
    nothing is wrapped or changed. Rows of ``cell`` along which ``pbc`` is false are not looked at.

    Args:
        pos: Positions, shape ``[N, 3]``, in Å.
        cell: Lattice vectors as rows, shape ``[3, 3]``, in Å.
        pbc: Periodic along each lattice vector, shape ``[3]``.
        cutoff: In Å.

    Returns:
        ``edge_index`` of shape ``[2, E]``, int64: row 0 the neighbour (source), row 1 the receiver; and
        ``edge_cell_shift`` of shape ``[E, 3]``, int64: the edge vector is
        ``pos[edge_index[0]] - pos[edge_index[1]] + edge_cell_shift @ cell``.

    Raises:
        ValueError: For positions or cells that are not finite, a periodic cell without volume, a cutoff that is not
            positive, and atoms on top of each other.

    Example:
        >>> edge_index, shift = neighbour_list([[0.0, 0.0, 0.0]], np.eye(3), [True, True, False], cutoff=1.2)
        >>> edge_index.shape, shift.tolist()
        (torch.Size([2, 4]), [[-1, 0, 0], [0, -1, 0], [0, 1, 0], [1, 0, 0]])
    """
    from vesin import NeighborList  # imports ASE if it can

    points, box, periodic = (
        to_numpy(pos, np.float64),
        to_numpy(cell, np.float64).reshape(3, 3),
        to_numpy(pbc, bool).reshape(3),
    )
    check_positions(points)
    check_cell(box, periodic)
    check_cutoff(cutoff)
    if len(points) == 0:
        return torch.empty(2, 0, dtype=torch.int64), torch.empty(0, 3, dtype=torch.int64)
    box = _complete(box, periodic)
    # Far from the cell the differences of positions lose digits: bring every atom home first, undo it in the shifts.
    home = np.where(periodic, np.floor(points @ np.linalg.inv(box)), 0.0)
    search = NeighborList(cutoff=float(cutoff), full_list=True)
    i, j, shift, d = search.compute(points - home @ box, box, periodic, "ijSd")
    i, j = i.astype(np.int64), j.astype(np.int64)
    shift = shift.astype(np.int64) + (home[i] - home[j]).astype(np.int64)
    check_distances(i, j, d)
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], j, i))
    return torch.tensor(np.stack([j[order], i[order]])), torch.tensor(shift[order])  # in memory of torch itself


def _complete(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Put unit vectors normal to the periodic rows in place of the others, which may be zero, parallel or anything."""
    cell = cell * pbc[:, None]
    _, _, vh = np.linalg.svd(cell)
    cell[~pbc] = vh[int(pbc.sum()) :]
    return cell
