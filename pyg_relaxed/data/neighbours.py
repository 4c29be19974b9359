"""Who is within the cutoff of whom: one function over vesin."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checks import check_cell, check_cutoff, check_distances, check_images, check_positions
from .arrays import to_numpy

if TYPE_CHECKING:
    from vesin import NeighborList


def neighbour_list(
    pos: Tensor | npt.ArrayLike,
    cell: Tensor | npt.ArrayLike,
    pbc: Tensor | npt.ArrayLike,
    cutoff: float,
    batch: Tensor | npt.ArrayLike | None = None,
) -> tuple[Tensor, Tensor]:
    """List every directed pair within ``cutoff``, self-images included, sorted by receiver, then sender, then shift.

    Complete (no largest number of neighbours), both directions, no self-edge of zero length. Atoms may lie anywhere;
    nothing is wrapped or changed. Rows of ``cell`` along which ``pbc`` is false are not looked at. The search runs in
    float64, on the GPU where ``pos`` is there and vesin can load the libraries of CUDA, else on the CPU.

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
    device = pos.device if isinstance(pos, Tensor) else torch.device("cpu")
    if batch is None:
        return _search(points, boxes.reshape(3, 3), periodic.reshape(3), cutoff, device)
    boxes, periodic = boxes.reshape(-1, 3, 3), periodic.reshape(-1, 3)
    begins = _begins(to_numpy(batch), len(points), len(boxes), len(periodic))
    parts = [_no_edges(device)]
    for n, (begin, end) in enumerate(pairwise(begins)):
        try:
            edge_index, shift = _search(points[begin:end], boxes[n], periodic[n], cutoff, device)
        except ValueError as error:
            raise ValueError(f"structure {n} of the batch: {error}") from None
        parts.append((edge_index.add_(int(begin)), shift))
    edge_indices, shifts = zip(*parts, strict=True)
    return torch.cat(edge_indices, dim=1), torch.cat(shifts)


def _no_edges(device: torch.device) -> tuple[Tensor, Tensor]:
    nothing = torch.empty(3, 0, dtype=torch.int64, device=device)
    return nothing[:2], nothing.T


def _search(
    points: np.ndarray, box: np.ndarray, periodic: np.ndarray, cutoff: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return edges and shifts of one structure."""
    from vesin import NeighborList  # imports ASE if it can

    check_cell(box, periodic)
    if len(points) == 0:
        return _no_edges(device)
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
    i, j, shift, distance = _pairs(search, wrapped, box, periodic, device)
    if reach > cutoff:
        near = distance < cutoff  # < as vesin
        i, j, shift, distance = i[near], j[near], shift[near], distance[near]
    check_distances(i, j, distance)
    edge_index, edge_cell_shift = _sorted(i, j, shift, torch.from_numpy(home.astype(np.int64)).to(i.device))
    return edge_index.to(device), edge_cell_shift.to(device)


def _pairs(
    search: NeighborList, points: np.ndarray, box: np.ndarray, periodic: np.ndarray, device: torch.device
) -> list[Tensor]:
    """Return i and j (int64), shifts (int32) and distances of all pairs, in memory of ``search``.

    They are found on a GPU, and stay there, where vesin can.
    """
    if device.type == "cuda":
        try:
            i, j, *rest = search.compute(*(torch.from_numpy(t).to(device) for t in (points, box, periodic)), "ijSd")
        except RuntimeError:  # there is no library of CUDA that it can load, or no room for that many pairs
            pass
        else:
            return [i.to(torch.int64), j.to(torch.int64), *rest]
    i, j, *rest = search.compute(points, box, periodic, "ijSd", copy=False)
    return [torch.from_numpy(column) for column in (i.view(np.int64), j.view(np.int64), *rest)]


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


def _sorted(i: Tensor, j: Tensor, shift: Tensor, home: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``edge_index`` and ``edge_cell_shift`` of pairs of atoms that were moved by ``-home`` cells, in order.

    Pairs are sorted as single numbers, made of i, j and the shift, where those fit: several times as fast as by
    columns.
    """
    edge_index, edge_cell_shift = i.new_empty(2, len(i)), i.new_empty(len(i), 3)
    if len(i) == 0:
        return edge_index, edge_cell_shift
    low, high = _range(shift)
    lowest, highest = _range(home)
    low, high = low + lowest - highest, high + highest - lowest
    bits = [len(home).bit_length(), *(int(n).bit_length() for n in high - low)]
    if bits[0] + sum(bits) > 63:
        return _sorted_by_columns(i, j, shift + home[i] - home[j])
    units = [1 << sum(bits[k + 2 :]) for k in range(3)]
    cells = (home * home.new_tensor(units)).sum(dim=1)
    atoms = torch.arange(len(home), device=i.device) << sum(bits[1:])
    keys = ((atoms << bits[0]) + cells).index_select(0, i)
    keys += (atoms - cells).index_select(0, j)
    for k, unit in enumerate(units):
        keys.add_(shift[:, k], alpha=unit)
    keys -= sum(int(n) * unit for n, unit in zip(low, units, strict=True))
    keys = keys.sort()[0] if keys.is_cuda else torch.from_numpy(np.sort(keys.numpy()))  # several times as fast
    targets = [edge_index[0], *edge_cell_shift.T]
    for target, size in zip(targets[::-1], bits[::-1], strict=True):
        torch.bitwise_and(keys, (1 << size) - 1, out=target)
        keys >>= size
    edge_index[1] = keys
    edge_cell_shift += edge_cell_shift.new_tensor(low)
    return edge_index, edge_cell_shift


def _range(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest of each column."""
    low, high = torch.aminmax(rows, dim=0)
    return low.cpu().numpy().astype(np.int64), high.cpu().numpy().astype(np.int64)


def _sorted_by_columns(i: Tensor, j: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    columns = [column.cpu().numpy() for column in (*shift.T.flip(0), j, i)]
    order = torch.from_numpy(np.lexsort(columns)).to(i.device)
    return torch.stack([j[order], i[order]]), shift[order]


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
