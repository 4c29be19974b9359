"""A graph in other axes: everything that has Cartesian components turns, and nothing else."""

from __future__ import annotations

import copy
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import Data

from ..checks import check_orthogonal
from .arrays import to_numpy
from .frame import cell_map, polar_decomposition
from .keys import KEYS

# What turns beside the table of keys, and how many of its last indices are Cartesian: edge vectors, and what the
# transforms PositionNoise and Symmetrize leave on a graph.
CARTESIAN: Final = {"edge_vec": 1, "site_noise": 1, "site_displacement": 1, "info_strain": 2}


def rotate(data: Data, R: Tensor | npt.ArrayLike) -> Data:
    """Return a graph whose vectors v are R v, with its forces, stress and all tensors; edges and shifts stay.

    Positions, cell, edge vectors and every key of the table turn as its ``irreps`` say; magnetic moments with three
    components are axial. So do ``site_noise``, ``site_displacement`` and ``info_strain`` of the transforms; any other
    ``site_*`` and ``info_*`` stays as it is. A relaxed model gives the turned result on the turned graph only if its
    theta turns along, :func:`pyg_relaxed.rotate_`.

    Args:
        data: A graph or a batch of graphs; it is not changed.
        R: Element of O(3), shape ``[3, 3]``.

    Raises:
        ValueError: If R is not orthogonal, or an atom is ``fixed`` along some of the axes only.

    Example:
        >>> data = Data(pos=torch.tensor([[1.0, 0.0, 0.0]]), forces=torch.tensor([[0.0, 0.0, 2.0]]))
        >>> turned = rotate(data, [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> turned.pos.tolist(), turned.forces.tolist()
        ([[0.0, 1.0, 0.0]], [[0.0, 0.0, 2.0]])
    """
    matrix = torch.as_tensor(to_numpy(R, np.float64))
    check_orthogonal(matrix)
    fixed = data.get("fixed")
    partly = None if fixed is None else fixed.any(dim=1) & ~fixed.all(dim=1)
    if fixed is not None and partly is not None and partly.any():
        atom = int(partly.nonzero()[0, 0])
        raise ValueError(f"atom {atom} is fixed along {fixed[atom].tolist()} only, which does not turn: remove that")
    turned = copy.copy(data)
    for name, value in data.to_dict().items():
        rank = _rank(name, value)
        if rank:
            D = matrix.to(value.dtype).to(value.device)
            if name in KEYS and KEYS[name].axial:
                D = D * torch.linalg.det(D).round()
            for axis in range(-rank, 0):
                value = (value.movedim(axis, -1) @ D.T).movedim(-1, axis)
            turned[name] = value.contiguous()
    return turned


def align_to(data: Data, cell: Tensor | npt.ArrayLike) -> tuple[Data, np.ndarray]:
    """Return a graph in the axes of another cell with the same lattice vectors, distorted or not, and the rotation.

    The rotation is that of the polar decomposition of the map from ``cell`` to the graph's own: what remains between
    the two is a symmetric strain.

    Args:
        data: One graph with a cell; it is not changed.
        cell: Lattice vectors as rows, shape ``[3, 3]``, in Å.

    Returns:
        The graph ``rotate(data, R)`` and the proper rotation R, shape ``[3, 3]``.

    Raises:
        ValueError: If one of the cells has no volume, or they have opposite handedness.

    Example:
        >>> data = Data(pos=torch.zeros(1, 3), cell=torch.tensor([[[0.0, 2, 0], [-3.0, 0, 0], [0, 0, 2]]]))
        >>> aligned, R = align_to(data, 2 * np.eye(3))
        >>> aligned.cell.round(decimals=6).abs().tolist(), R.round(6).tolist()[1]
        ([[[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 2.0]]], [-1.0, 0.0, 0.0])
    """
    own = data.get("cell")
    if own is None or own.numel() != 9:
        raise ValueError("'data' needs one cell of shape (1, 3, 3) to be aligned")
    R, _ = polar_decomposition(cell_map(to_numpy(cell, np.float64), to_numpy(own, np.float64).reshape(3, 3)))
    return rotate(data, R.T), R.T


def _rank(name: str, value: object) -> int:
    """Return how many of the last indices of an attribute are Cartesian."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return 0
    if name in CARTESIAN:
        return CARTESIAN[name]
    key = KEYS.get(name)
    if key is None or (key.axial and value.dim() == key.rank):  # collinear moments are numbers
        return 0
    return key.rank
