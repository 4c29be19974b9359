"""Many short rows multiplied by one small matrix, or each by the matrix of its own graph."""

from __future__ import annotations

import torch
from torch import Tensor


def matmul(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return ``rows @ matrix``, on a CPU in a third of the time where many rows are short.

    The libraries behind torch are slow for products narrower than their registers, which hold 16 numbers in float32:
    two rows at a time, and the matrix twice along a diagonal, are the same product and wide enough.

    Args:
        rows (Tensor): ``[N, K]``.
        matrix (Tensor): ``[K, L]``.

    Example::

        >>> matmul(torch.ones(4, 2), torch.eye(2)).tolist() == [[1.0, 1.0]] * 4
        True
    """
    N, K = rows.shape
    is_narrow = K < 16 and rows.dtype == torch.float32 and rows.device.type == "cpu"
    if not is_narrow or torch.compiler.is_compiling() or N % 2:
        return rows @ matrix
    return (rows.reshape(N // 2, 2 * K) @ torch.block_diag(matrix, matrix)).view(N, matrix.shape[1])


class Groups:
    """To which graph each row of a tensor belongs; made once, used for all products with those rows.

    Args:
        batch (Tensor): Number of the graph of each row, ``[N]``, in any order.
        num_graphs (int): Number of graphs.

    Example::

        >>> groups = Groups(torch.tensor([0, 1, 0]), 2)
        >>> matrices = torch.tensor([1.0, 10.0]).view(2, 1, 1)
        >>> groups.matmul(torch.ones(3, 1), matrices).flatten()
        tensor([ 1., 10.,  1.])
    """

    def __init__(self, batch: Tensor, num_graphs: int) -> None:
        self.batch = batch
        self.num_graphs = num_graphs
        counts = torch.bincount(batch, minlength=num_graphs)
        self.longest = int(counts.max()) if len(batch) else 0
        order = batch.argsort(stable=True)
        begins = (counts.cumsum(0) - counts)[batch[order]]
        within = torch.empty_like(order)
        within[order] = torch.arange(len(batch), device=batch.device) - begins
        self.place = batch * self.longest + within  # among rows of equally many for each graph

    def matmul(self, x: Tensor, matrices: Tensor) -> Tensor:
        """Return ``x[n] @ matrices[batch[n]]`` for rows ``[N, K]`` and matrices ``[num_graphs, K, L]``."""
        if self.num_graphs == 1:
            return matmul(x, matrices[0])
        padded = x.new_zeros(self.num_graphs * self.longest, x.shape[1]).index_copy(0, self.place, x)
        product = padded.view(self.num_graphs, self.longest, x.shape[1]) @ matrices
        return product.flatten(0, 1).index_select(0, self.place)
