"""Who is within the cutoff of whom: one function over vesin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checks import check_boxes, check_cell, check_cutoff, check_distances, check_images, check_positions
from .arrays import to_numpy

if TYPE_CHECKING:
    from vesin import NeighborList

MANY = 20_000  # pairs
PADDING = 1.1  # of the cutoff, between what must not see each other: more than rounding
GPU_REFUSALS = ("Failed to load", "exceeds the maximum capacity", "out of memory")  # what vesin says; the CPU can


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
    check_boxes(boxes, periodic)
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
    points = points - home @ box
    widths = 1 / np.linalg.norm(inverse, axis=0)
    if not periodic.all():
        points, widths = _without_gaps(points, box, widths, periodic, PADDING * max(cutoff, 1e-3))
    reach, sides = _reach(widths, periodic, cutoff)
    # vesin takes minutes where only some directions are periodic: along the others give it images out of reach.
    closed = np.where(periodic[:, None], box, sides[:, None] * box)
    check_images(len(points), box, widths.tolist(), periodic, reach)
    search = NeighborList(cutoff=reach, full_list=True)
    i, j, shift, distance = _pairs(search, points, closed, device)
    if reach > cutoff:
        near = distance < cutoff  # < as vesin
        i, j, shift, distance = i[near], j[near], shift[near], distance[near]
    check_distances(i, j, distance)
    farthest = np.where(periodic, reach / sides + 2, 0).tolist()
    edge_index, edge_cell_shift = _sorted(i, j, shift, home, farthest)
    return edge_index.to(device), edge_cell_shift.to(device)


def _pairs(search: NeighborList, points: np.ndarray, box: np.ndarray, device: torch.device) -> list[Any]:
    """Return i and j (int64), shifts (int32) and distances of all pairs, in memory of ``search``.

    They are found on a GPU, and stay there, where vesin can. Few are arrays of NumPy, whose calls are short; many are
    tensors, for which torch has threads.
    """
    periodic = np.ones(3, dtype=bool)
    if device.type == "cuda":
        try:
            i, j, *rest = search.compute(*(torch.from_numpy(t).to(device) for t in (points, box, periodic)), "ijSd")
        except RuntimeError as error:
            if not any(refusal in str(error) for refusal in GPU_REFUSALS):
                raise
        else:
            return [i.to(torch.int64), j.to(torch.int64), *rest]
    i, j, *rest = search.compute(points, box, periodic, "ijSd", copy=False)
    columns = [i.view(np.int64), j.view(np.int64), *rest]
    return columns if len(i) < MANY else [torch.from_numpy(column) for column in columns]


def _reach(widths: np.ndarray, periodic: np.ndarray, cutoff: float) -> tuple[float, np.ndarray]:
    """Return how far to search, in a box of which sides: to the cutoff, or farther where vesin would divide by zero.

    vesin 0.6.2 takes as many bins of the cutoff as fit between the faces of a box. If those are more than 1e5 it scales
    them down, one side after the other, each cut to an integer and made from the one before: where 2 along the thinnest
    side should be left (3, to be sure) at least 1 is, where fewer perhaps none. On a GPU all must fit into 32 bits.
    """
    reach = max(cutoff, 1e-3)  # vesin refuses 1e-6
    while True:
        sides = np.where(periodic, widths, widths + PADDING * reach)
        bins = [max(side * (1 + 1e-6) // reach, 1) for side in sides.tolist()]  # no fewer than vesin, which rounds too
        total = math.prod(bins)
        if total <= 1e5 or (total < 2**31 and min(bins) * math.cbrt(1e5 / total) >= 3):
            return reach, sides
        reach *= 1.1


def _without_gaps(
    points: np.ndarray, box: np.ndarray, widths: np.ndarray, periodic: np.ndarray, gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions from zero on, with no gap wider than ``gap``, along open directions, and how far they spread.

    Open directions are unit rows of ``box``; along the others the second result is ``widths``. Atoms with no such gap
    between them move together.
    """
    directions, widths = box[~periodic], widths.copy()
    along = points @ directions.T
    order = np.argsort(along, axis=0)
    ordered = np.take_along_axis(along, order, axis=0)
    excess = np.maximum(np.diff(ordered, axis=0, prepend=ordered[:1]) - gap, 0)
    back = np.empty_like(along)
    np.put_along_axis(back, order, ordered[:1] + np.cumsum(excess, axis=0), axis=0)
    widths[~periodic] = (along - back).max(axis=0)
    return points - back @ directions, widths


def _sorted(i: Any, j: Any, shift: Any, home: np.ndarray, farthest: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return ``edge_index`` and ``edge_cell_shift`` in order of pairs of atoms that were moved by ``-home`` cells.

    Pairs, arrays or tensors, are sorted as single numbers, made of i, j and the shift, where those fit: several times
    as fast as by columns. No shift is larger than ``farthest``.
    """
    home = home.astype(np.int64)
    low = [-int(n) - spread for n, spread in zip(farthest, np.ptp(home, axis=0).tolist(), strict=True)]
    bits = [len(home).bit_length(), *((-2 * n).bit_length() for n in low)]
    fits = sum(bits[1:]) < 31 and bits[0] + sum(bits) < 64  # shifts are int32
    units = [1 << sum(bits[k + 2 :]) for k in range(3)] if fits else [0, 0, 0]
    lowest = sum(n * unit for n, unit in zip(low, units, strict=True))
    atoms, moved = np.arange(len(home)) << sum(bits[1:]), home @ np.array(units)
    first: Any = (atoms << bits[0]) + moved
    second: Any = atoms - moved - lowest
    device = i.device if isinstance(i, Tensor) else torch.device("cpu")
    edge_index = torch.empty(2, len(i), dtype=torch.int64, device=device)  # memory of torch, not of NumPy
    edge_cell_shift = torch.empty(len(i), 3, dtype=torch.int64, device=device)
    pairs: Any = edge_index if isinstance(i, Tensor) else edge_index.numpy()
    shifts: Any = edge_cell_shift if isinstance(i, Tensor) else edge_cell_shift.numpy()
    if not fits:
        cells: Any = torch.from_numpy(home).to(device) if isinstance(i, Tensor) else home
        pairs[0], pairs[1], shifts[:] = _sorted_by_columns(i, j, shift + cells[i] - cells[j])
        return edge_index, edge_cell_shift
    if isinstance(i, Tensor):
        first, second = torch.from_numpy(first).to(device), torch.from_numpy(second).to(device)
    keys = first[i]
    keys += second[j]
    keys += (((shift[:, 0] << bits[2]) + shift[:, 1]) << bits[3]) + shift[:, 2]
    keys = keys.sort()[0] if isinstance(keys, Tensor) else np.sort(keys)
    for k in (2, 1, 0):
        shifts[:, k] = (keys & ((1 << bits[k + 1]) - 1)) + low[k]
        keys >>= bits[k + 1]
    pairs[0], pairs[1] = keys & ((1 << bits[0]) - 1), keys >> bits[0]
    return edge_index, edge_cell_shift


def _sorted_by_columns(i: Any, j: Any, shift: Any) -> tuple[Any, Any, Any]:
    """Return the columns j, i and shift of sorted pairs."""
    columns = (to_numpy(column) for column in (shift[:, 2], shift[:, 1], shift[:, 0], j, i))
    order: Any = np.lexsort(tuple(columns))
    order = torch.from_numpy(order).to(i.device) if isinstance(i, Tensor) else order
    return j[order], i[order], shift[order]


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
