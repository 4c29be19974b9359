"""Edges within a cutoff, through periodic boundaries."""

from __future__ import annotations

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from ..checks import check_cutoff
from ..data import neighbour_list


class RadiusGraph(BaseTransform):
    """Put in the edges of all atoms within a cutoff, as :func:`pyg_relaxed.data.neighbour_list` finds them.

    Periodic along the lattice vectors that ``pbc`` names; without ``cell`` or ``pbc`` the graph is a molecule. Unlike
    :class:`torch_geometric.transforms.RadiusGraph` it leaves no neighbour out. Attributes of the old edges
    (``edge_attr``, ``edge_weight``, whatever ``data.is_edge_attr`` names) belong to those and are removed. Distances
    are those in float64, and ``cutoff`` is kept in float32 at least, of positions in any dtype.

    Args:
        cutoff (float): In Å.

    Raises:
        ValueError: If the cutoff is not positive and finite.

    Example::

        >>> data = Data(pos=torch.zeros(1, 3), cell=torch.eye(3)[None], pbc=torch.tensor([[True, True, False]]))
        >>> RadiusGraph(cutoff=1.2)(data).edge_cell_shift.tolist()
        [[-1, 0, 0], [0, -1, 0], [0, 1, 0], [1, 0, 0]]
    """

    def __init__(self, cutoff: float) -> None:
        check_cutoff(cutoff)
        self.cutoff = float(cutoff)

    def forward(self, data: Data) -> Data:
        """Return the graph with the new edges."""
        if isinstance(data, Batch):
            return Batch.from_data_list([self(graph) for graph in data.to_data_list()])
        if data.get("pos") is None:
            raise ValueError(f"the graph needs positions 'pos' (it has {', '.join(data.keys())})")
        cell, pbc = data.get("cell"), data.get("pbc")
        if cell is None and pbc is not None and pbc.any():
            raise ValueError(f"'pbc' is {pbc.tolist()} but the graph has no 'cell': give one of shape (1, 3, 3)")
        if pbc is None:
            pbc = torch.zeros(3, dtype=torch.bool)
        cell = torch.zeros(3, 3) if cell is None else cell
        for stale in edge_attributes(data):
            del data[stale]
        data.edge_index, data.edge_cell_shift = neighbour_list(data.pos, cell, pbc, self.cutoff)
        data.cutoff = data.pos.new_tensor([self.cutoff], dtype=torch.promote_types(data.pos.dtype, torch.float32))
        return data

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(cutoff={self.cutoff})"


def edge_attributes(data: Data) -> list[str]:
    """Return the names of what belongs to the edges of a graph, and to no others: by PyG's rule, or called ``edge_*``.

    Args:
        data: One graph.

    Example:
        >>> edge_attributes(Data(pos=torch.zeros(2, 3), edge_index=torch.tensor([[0], [1]]), weight=torch.ones(1)))
        ['edge_index', 'weight']
    """
    return [name for name in data.to_dict() if name.startswith("edge_") or data.is_edge_attr(name)]
