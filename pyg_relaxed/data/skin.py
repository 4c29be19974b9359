"""Neighbours of atoms that move a little at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checks import check_cell, check_cutoff, check_distances, check_positions
from .arrays import to_numpy
from .neighbours import complete_cell, neighbour_list


class SkinNeighbourList:
    r"""What :func:`neighbour_list` returns, edge for edge, but searched anew only when it must be.

    The search goes out to ``cutoff + skin``; as long as no pair from further away can have come within ``cutoff``, its
    result is cut down to what is near now. With F the map from the cell of the search to the cell of now and
    :math:`u_i` what atom i has moved beyond it (:math:`x_i = F x_i^0 + u_i`, less the mean), a pair within the cutoff
    was not further apart than :math:`\lVert F^{-1} \rVert_2 \, (r_c + 2 \max_i |u_i|)`. So atoms may move, the cell may
    change shape, and no edge is missed.

    Args:
        cutoff: In Å.
        skin: In Å; a larger one is searched less often and leaves more pairs to look through.

    Raises:
        ValueError: If one of the two is not positive.

    Example:
        >>> search = SkinNeighbourList(cutoff=1.2, skin=0.5)
        >>> for height in (0.0, 0.1, 0.2):
        ...     edge_index, shift = search([[0.0, 0.0, height]], np.eye(3), [True, True, False])
        >>> edge_index.shape, search.num_searches
        (torch.Size([2, 4]), 1)
    """

    def __init__(self, cutoff: float, skin: float = 1.0) -> None:
        check_cutoff(cutoff)
        if not 0 < skin < float("inf"):
            raise ValueError(f"'skin' must be a positive, finite distance in Å (got {skin})")
        self.cutoff, self.skin = float(cutoff), float(skin)
        self.num_searches = 0
        self._pos = np.empty((0, 3))
        self._cell = np.eye(3)
        self._pbc = np.zeros(3, dtype=bool)
        self._edges: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, pos: Tensor | npt.ArrayLike, cell: Tensor | npt.ArrayLike, pbc: Tensor | npt.ArrayLike
    ) -> tuple[Tensor, Tensor]:
        """Return ``edge_index`` ``[2, E]`` and ``edge_cell_shift`` ``[E, 3]`` of one structure.

        Args:
            pos: Positions, shape ``[N, 3]``, in Å.
            cell: Lattice vectors as rows, shape ``[3, 3]``, in Å.
            pbc: Periodic along each lattice vector, shape ``[3]``.

        Raises:
            ValueError: For what :func:`neighbour_list` refuses.
        """
        points, box = to_numpy(pos, np.float64), to_numpy(cell, np.float64).reshape(3, 3)
        periodic = to_numpy(pbc, bool).reshape(3)
        check_positions(points)
        check_cell(box, periodic)
        edges = self._edges
        if edges is None or not self._is_enough(points, box, periodic):
            edges = neighbour_list(points, box, periodic, self.cutoff + self.skin)
            self.num_searches += 1
            self._pos, self._cell, self._pbc, self._edges = points.copy(), box.copy(), periodic.copy(), edges
        (j, i), shift = edges[0].numpy(), edges[1].numpy()
        # Rows without periodicity may be anything; their shifts are zero.
        distances = np.linalg.norm(points[j] - points[i] + shift @ (box * periodic[:, None]), axis=1)
        near = distances < self.cutoff
        check_distances(i[near], j[near], distances[near])
        kept = torch.from_numpy(near)
        device = pos.device if isinstance(pos, Tensor) else torch.device("cpu")
        return edges[0][:, kept].to(device), edges[1][kept].to(device)

    def _is_enough(self, points: np.ndarray, box: np.ndarray, periodic: np.ndarray) -> bool:
        """Tell whether every pair within the cutoff now was within cutoff and skin at the last search."""
        if points.shape != self._pos.shape or not np.array_equal(periodic, self._pbc):
            return False
        before, now = complete_cell(self._cell, periodic), complete_cell(box, periodic)
        F = np.linalg.solve(before, now)  # of rows: x = x0 @ F
        moved = points - self._pos @ F
        drift = moved.sum(axis=0) / max(len(moved), 1)  # no atoms have no mean
        furthest = np.linalg.norm(moved - drift, axis=1).max(initial=0.0)
        stretch = np.linalg.norm(np.linalg.inv(F), ord=2)
        return bool(stretch * (self.cutoff + 2 * furthest) <= self.cutoff + self.skin)
