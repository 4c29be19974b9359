"""The graph of a structure: a PyG ``Data`` that knows the level of its attributes, and its edge vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.storage import GlobalStorage

from ..checks import check_elements
from .arrays import encode, to_numpy
from .frame import check_frame
from .keys import KEYS, level_of
from .neighbours import neighbour_list


class AtomicStorage(GlobalStorage):
    """PyG's storage, with the level of an attribute read from the table of keys instead of guessed from its size."""

    def is_node_attr(self, key: str) -> bool:
        """Return whether ``key`` belongs to the atoms."""
        level = level_of(key)
        return super().is_node_attr(key) if level is None else level == "node"

    def is_edge_attr(self, key: str) -> bool:
        """Return whether ``key`` belongs to the edges."""
        level = level_of(key)
        return super().is_edge_attr(key) if level is None else level == "edge"


class AtomicData(Data):
    """A :class:`torch_geometric.data.Data` of atoms; ``Batch``, ``DataLoader`` and ``subgraph`` work as for any other.

    The attributes are those of :data:`pyg_relaxed.data.KEYS`, ``site_*`` (any other per-atom property) and ``info_*``
    (any other property of the structure). For these, batching and cutting follow the table: PyG alone would go by the
    name and the size, take the cell of a 1-atom crystal for a node attribute and add to anything called ``*index*``.

    Example:
        >>> data = AtomicData(z=torch.tensor([1]), pos=torch.zeros(1, 3), cell=torch.eye(3)[None])
        >>> data.is_node_attr("pos"), data.is_node_attr("cell")
        (True, False)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        store = AtomicStorage(_parent=self)
        store.__dict__["_mapping"] = self._store._mapping  # as it is: set again, each attribute costs as much again
        self.__dict__["_store"] = store

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if level_of(key) is None:
            return super().__cat_dim__(key, value, *args, **kwargs)
        return -1 if key == "edge_index" else 0

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if level_of(key) is None or key == "edge_index":
            return super().__inc__(key, value, *args, **kwargs)
        return 0


def build_graph(
    z: npt.ArrayLike,
    pos: npt.ArrayLike,
    cell: npt.ArrayLike,
    pbc: npt.ArrayLike,
    cutoff: float = 5.0,
    dtype: torch.dtype | None = None,
    frame: str = "cartesian",
    **attributes: Any,
) -> AtomicData:
    """Build the graph of a structure, with all its edges; nothing given is changed or shared.

    Args:
        z: Atomic numbers, shape ``[N]``.
        pos: Positions, shape ``[N, 3]``, in Å.
        cell: Lattice vectors as rows, shape ``[3, 3]``, in Å; zeros without one.
        pbc: Periodic along each lattice vector, shape ``[3]``.
        cutoff: In Å. The edges are found in float64 whatever ``dtype`` is.
        dtype: Of every float. None is ``torch.get_default_dtype()``, as models have; float64 loses nothing.
        frame: Where the axes come from, ``"cartesian"`` or ``"standard"``.
        **attributes: Any key, ``site_*`` or ``info_*``, without the leading 1 of graph-level ones; None is left out.

    Raises:
        ValueError: For no atoms, an unknown element, and what :func:`neighbour_list` refuses.

    Example:
        >>> data = build_graph([1, 1], [[0, 0, 0], [0, 0, 0.74]], torch.zeros(3, 3), [False] * 3, energy=-31.7)
        >>> data.edge_index.tolist(), data.energy
        ([[1, 0], [0, 1]], tensor([-31.7000], dtype=torch.float64))
    """
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not dtype.is_floating_point:
        raise TypeError(f"'dtype' must be a floating dtype such as torch.float64 (got {dtype})")
    check_frame(frame)
    z, pos = to_numpy(z), to_numpy(pos, np.float64)
    if len(z) == 0:
        raise ValueError("the structure has no atoms: leave it out")
    if pos.shape != (len(z), 3):
        raise ValueError(f"'pos' must have shape ({len(z)}, 3) for {len(z)} atomic numbers (got {pos.shape})")
    check_elements(z)
    _check_finite(attributes)
    edge_index, edge_cell_shift = neighbour_list(pos, cell, pbc, cutoff)
    given = {"z": z, "pos": pos, "cell": cell, "pbc": pbc, "cutoff": float(cutoff), "frame": frame, **attributes}
    tensors = {name: encode(name, value, dtype) for name, value in given.items() if value is not None}
    tensors["cutoff"] = encode("cutoff", float(cutoff), torch.promote_types(dtype, torch.float32))  # 16 bits round it
    return AtomicData(edge_index=edge_index, edge_cell_shift=edge_cell_shift, **tensors)


def _check_finite(attributes: dict[str, Any]) -> None:
    """Raise for inputs that are NaN or infinite, and for labels that are infinite: NaN is no label."""
    for name, value in attributes.items():
        role = KEYS[name].role if name in KEYS else "extra"
        if role == "extra" or value is None or KEYS[name].dtype not in ("float", "double"):
            continue
        numbers = to_numpy(value, np.float64)
        if np.isinf(numbers).any() or (role == "input" and np.isnan(numbers).any()):
            wrong = numbers[~np.isfinite(numbers)][0]
            raise ValueError(f"'{name}' must be finite (got {wrong}): correct it, or leave it out")


def edge_vectors(data: Data, pos: Tensor | None = None, cell: Tensor | None = None) -> Tensor:
    """Return the vectors from each receiver ``edge_index[1]`` to its neighbour ``edge_index[0]``.

    ``pos[src] - pos[dst] + edge_cell_shift @ cell``, with the cell of the edge's own graph in a batch. Differentiable
    in ``pos`` and ``cell``.

    Args:
        data: A graph or a batch of graphs; without ``cell`` or ``edge_cell_shift`` it is a molecule.
        pos: Positions in place of ``data.pos``, shape ``[N, 3]``, in Å.
        cell: Cells in place of ``data.cell``, shape ``[B, 3, 3]`` or ``[3, 3]``, in Å.

    Returns:
        Shape ``[E, 3]``, in Å.

    Raises:
        ValueError: For shifts without a cell, and for several cells in a graph without ``batch``.

    Example:
        >>> edge_vectors(build_graph([1], [[0.0, 0.0, 0.0]], torch.eye(3), [True, False, False], cutoff=1.2))
        tensor([[-1.,  0.,  0.], [ 1.,  0.,  0.]])
    """
    pos = data.pos if pos is None else pos
    cell = data.get("cell") if cell is None else cell
    shift = data.get("edge_cell_shift")
    src, dst = data.edge_index
    vectors = pos[src] - pos[dst]
    if shift is None:
        return vectors
    if cell is None:
        if shift.any():
            raise ValueError(
                "'edge_cell_shift' is not zero but the graph has no 'cell': give data.cell of shape (1, 3, 3)"
            )
        return vectors
    cell, shift = cell.reshape(-1, 3, 3), shift.to(vectors.dtype)
    if len(cell) == 1:
        return vectors + shift @ cell[0]
    batch = data.get("batch")
    if batch is None:
        raise ValueError(f"'cell' holds {len(cell)} cells but the graph has no 'batch': use Batch.from_data_list")
    return vectors + torch.einsum("ei,eij->ej", shift, cell[batch[dst]])
