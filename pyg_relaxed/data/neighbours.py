"""Who is within the cutoff of whom: one function over vesin."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checks import check_cell, check_cutoff, check_distances, check_images, check_positions
from .arrays import to_numpy


def neighbour_list(
    pos: Tensor | npt.ArrayLike,
    cell: Tensor | npt.ArrayLike,
    pbc: Tensor | npt.ArrayLike,
    cutoff: float,
    batch: Tensor | npt.ArrayLike | None = None,
) -> tuple[Tensor, Tensor]:
    """List every directed pair within ``cutoff``, self-images included, sorted by receiver, then sender, then shift.

    Complete (no largest number of neighbours), both directions, no self-edge of zero length. Atoms may lie anywhere;
    nothing is wrapped or changed. Rows of ``cell`` along which ``pbc`` is false are not looked at. The search runs on
    the CPU, in float64.

    Args:
        pos: Positions, shape ``[N, 3]``, in Å.
        cell: Lattice vectors as rows, shape ``[3, 3]``, with ``batch`` ``[B, 3, 3]``, in Å.
        pbc: Periodic along each lattice vector, shape ``[3]``, with ``batch`` ``[B, 3]``.
        cutoff: In Å.
        batch: Which of B structures each atom belongs to, shape ``[N]``, not falling; no pair joins two structures.

    Returns:
        ``edge_index`` of shape ``[2, E]``, int64: row 0 the neighbour (source), row 1 the receiver; and
        ``edge_cell_shift`` of shape ``[E, 3]``, int64: the edge vector is
        ``pos[edge_index[0]] - pos[edge_index[1]] + edge_cell_shift @ cell``. Both on the device of ``pos``.

    Raises:
        ValueError: For positions or cells that are not finite or absurd (a centimetre away, pairs beyond memory), a
            periodic cell without volume, a cutoff that is not positive, atoms on top of each other, and a ``batch``
            that falls or names a structure without a cell.

    Example:
        >>> edge_index, shift = neighbour_list([[0.0, 0.0, 0.0]], np.eye(3), [True, True, False], cutoff=1.2)
        >>> edge_index.shape, shift.tolist()
        (torch.Size([2, 4]), [[-1, 0, 0], [0, -1, 0], [0, 1, 0], [1, 0, 0]])
    """
    check_cutoff(cutoff)
    points, boxes, periodic = to_numpy(pos, np.float64), to_numpy(cell, np.float64), to_numpy(pbc, bool)
    check_positions(points)
    if batch is None:
        found = _search(points, boxes.reshape(3, 3), periodic.reshape(3), cutoff)
    else:
        boxes, periodic = boxes.reshape(-1, 3, 3), periodic.reshape(-1, 3)
        begins = _begins(to_numpy(batch), len(points), len(boxes), len(periodic))
        parts = []
        for n, (begin, end) in enumerate(pairwise(begins)):
            try:
                parts.append(_search(points[begin:end], boxes[n], periodic[n], cutoff, offset=begin))
            except ValueError as error:
                raise ValueError(f"structure {n} of the batch: {error}") from None
        # an empty batch has no part
        found = (
            torch.cat([torch.empty(2, 0, dtype=torch.int64), *(edge_index for edge_index, _ in parts)], dim=1),
            torch.cat([torch.empty(0, 3, dtype=torch.int64), *(shift for _, shift in parts)]),
        )
    device = pos.device if isinstance(pos, Tensor) else torch.device("cpu")
    return found[0].to(device), found[1].to(device)


def _search(
    points: np.ndarray, box: np.ndarray, periodic: np.ndarray, cutoff: float, offset: int = 0
) -> tuple[Tensor, Tensor]:
    """Return edges and shifts of one structure, whose first atom counts as number ``offset``."""
    from vesin import NeighborList  # imports ASE if it can

    check_cell(box, periodic)
    if len(points) == 0:
        return torch.empty(2, 0, dtype=torch.int64), torch.empty(0, 3, dtype=torch.int64)
    box = complete_cell(box, periodic)
    # Far from the cell the differences of positions lose digits: bring every atom home first, undo it in the shifts.
    inverse = np.linalg.inv(box)
    home = np.where(periodic, np.floor(points @ inverse), 0.0)
    wrapped = points - home @ box
    widths = _widths(wrapped, inverse, periodic)
    reach = _reach(widths, periodic, float(cutoff))
    if reach > cutoff:
        wrapped = _without_gaps(wrapped, box, inverse, periodic, 2 * cutoff)
        widths = _widths(wrapped, inverse, periodic)
        reach = _reach(widths, periodic, float(cutoff))
    check_images(len(points), box, widths, periodic, reach)
    search = NeighborList(cutoff=reach, full_list=True)
    i, j, shift, d = search.compute(wrapped, box, periodic, "ijSd", copy=False)  # memory of search
    if reach > cutoff:
        i, j, shift, d = (column[d < cutoff] for column in (i, j, shift, d))  # < as vesin
    check_distances(i, j, d)
    columns = [i.astype(np.int64), j.astype(np.int64), *shift.T.astype(np.int64)]
    away = np.asarray(home.any(axis=1))
    if away.any():
        edges = np.flatnonzero(away[columns[0]] | away[columns[1]])
        moved = (home[columns[0][edges]] - home[columns[1][edges]]).astype(np.int64)
        for column, more in zip(columns[2:], moved.T, strict=True):
            column[edges] += more
    columns = _sorted(columns)
    # In memory of torch itself, not of NumPy.
    edge_index, edge_cell_shift = torch.empty(2, len(i), dtype=torch.int64), torch.empty(len(i), 3, dtype=torch.int64)
    edge_index.numpy()[:] = columns[1], columns[0]
    edge_cell_shift.numpy().T[:] = columns[2:]
    return edge_index.add_(offset) if offset else edge_index, edge_cell_shift


def _widths(points: np.ndarray, inverse: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    """Return how wide the box is along each period, and the atoms spread along the other directions."""
    return np.where(periodic, 1 / np.linalg.norm(inverse, axis=0), np.ptp(points @ inverse, axis=0))


def _reach(widths: np.ndarray, periodic: np.ndarray, cutoff: float) -> float:
    """Return how far to search: the cutoff, or farther where vesin would divide by zero and end the process.

    vesin 0.6.2 scales the bins of a box to 1e5 of them at most; of a long or flat box that leaves none along a side.
    """
    reach = cutoff
    while True:
        bins = np.maximum(widths // reach, 1)
        most = np.prod(bins + 2 * ~periodic)
        if most <= 1e5 or bins.min() * np.cbrt(1e5 / most) >= 2:
            return reach
        reach *= 1.25


def _without_gaps(
    points: np.ndarray, box: np.ndarray, inverse: np.ndarray, periodic: np.ndarray, gap: float
) -> np.ndarray:
    """Return positions with no gap wider than ``gap`` along directions that are not periodic (unit rows of ``box``)."""
    for k in np.flatnonzero(~periodic):
        along = points @ inverse[:, k]
        order = np.argsort(along)
        excess = np.maximum(np.diff(along[order], prepend=along[order[0]]) - gap, 0)
        back = np.empty(len(points))
        back[order] = np.cumsum(excess)
        points = points - np.outer(back, box[k])
    return points


def _sorted(columns: list[np.ndarray]) -> list[np.ndarray]:
    """Return integer columns with their rows sorted, by the first column, then the second and so on.

    Rows are sorted as single numbers, made of all columns, where those fit: several times as fast.
    """
    lows = [int(column.min(initial=0)) for column in columns]
    bits = [(int(column.max(initial=0)) - low).bit_length() for column, low in zip(columns, lows, strict=True)]
    if sum(bits) > 63:
        order = np.lexsort(columns[::-1])
        return [column[order] for column in columns]
    keys = np.zeros(len(columns[0]), dtype=np.int64)
    for column, low, size in zip(columns, lows, bits, strict=True):
        keys <<= size
        keys |= column - low
    keys.sort()
    found = []
    for low, size in zip(lows[::-1], bits[::-1], strict=True):
        found.append((keys & ((1 << size) - 1)) + low)
        keys >>= size
    return found[::-1]


def _begins(batch: np.ndarray, num_atoms: int, num_cells: int, num_pbc: int) -> np.ndarray:
    """Return where the atoms of each structure begin, and where the last end."""
    if batch.shape != (num_atoms,) or batch.dtype.kind not in "iu":
        raise ValueError(f"'batch' must be integers of shape ({num_atoms},) (got {batch.dtype} {batch.shape})")
    if num_cells != num_pbc:
        raise ValueError(f"'cell' has {num_cells} structures, 'pbc' has {num_pbc}: give both for each")
    fall = np.flatnonzero(np.diff(batch) < 0)
    if len(fall):
        n = int(fall[0])
        raise ValueError(
            f"'batch' falls from {batch[n]} at atom {n} to {batch[n + 1]} at atom {n + 1}: sort atoms by structure"
        )
    if num_atoms and not 0 <= batch[0] <= batch[-1] < num_cells:
        raise ValueError(f"'batch' names structures {batch[0]} to {batch[-1]}, but there are {num_cells} cells")
    return np.searchsorted(batch, np.arange(num_cells + 1))


def complete_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Put unit vectors normal to the periodic rows in place of the others, which may be zero, parallel or anything.

    Args:
        cell: Lattice vectors as rows, shape ``[3, 3]``, in Å.
        pbc: Periodic along each lattice vector, shape ``[3]``.

    Example:
        >>> abs(complete_cell(np.diag([2.0, 3.0, 0.0]), np.array([True, True, False]))).tolist()
        [[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if pbc.all():
        return cell
    cell = cell * pbc[:, None]
    _, _, vh = np.linalg.svd(cell)
    cell[~pbc] = vh[int(pbc.sum()) :]
    return cell
