"""What the transforms of structures share: a batch is its graphs, each changed by itself."""

from __future__ import annotations

from abc import abstractmethod

from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform


class StructureTransform(BaseTransform):
    """A transform of one structure, which takes batches too: each structure of the batch is changed by itself.

    Subclasses implement :meth:`change`, which leaves its argument alone and returns another graph.

    Example::

        >>> import torch
        >>> class Lift(StructureTransform):
        ...     def change(self, data: Data) -> Data:
        ...         return Data(pos=data.pos + 1)
        >>> Lift()(Data(pos=torch.zeros(1, 3))).pos
        tensor([[1., 1., 1.]])
    """

    def forward(self, data: Data) -> Data:
        """Return the changed graph, or the batch of changed graphs."""
        if isinstance(data, Batch):
            return Batch.from_data_list([self(graph) for graph in data.to_data_list()])
        if data.get("pos") is None:
            raise ValueError(f"the graph needs positions 'pos' (it has {', '.join(data.keys())})")
        return self.change(data)

    @abstractmethod
    def change(self, data: Data) -> Data:
        """Return one changed graph."""
