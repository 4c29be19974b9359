"""The reference backend: plain torch, any device, any dtype, any order of derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from .paths import PathTable


class ReferenceBackend(torch.nn.Module):
    """Tensor product per edge and its sum over neighbours, one matrix product per block of the input.

    Args:
        table (PathTable): The paths.
    """

    order: Tensor

    def __init__(self, table: PathTable) -> None:
        super().__init__()
        self.dim_out = table.irreps_out.dim
        slices_in, slices_sh, slices_out = (ir.slices() for ir in (table.irreps_in, table.irreps_sh, table.blocks))
        self._inputs: list[tuple[int, int, int, int]] = []
        # No buffers: a buffer in float32 that .double() converts keeps its rounding.
        self._couplings: list[Tensor] = []
        order = []
        for i, (mul, ir_in) in enumerate(table.irreps_in):
            paths = [path for path in table.paths if path.i == i]
            if not paths:
                continue
            columns = sum(path.ir_out.dim for path in paths)
            couplings = torch.zeros(table.irreps_sh.dim, ir_in.dim, columns, dtype=torch.float64)
            weights = torch.zeros(mul, columns, dtype=torch.long)
            targets = torch.zeros(mul, columns, dtype=torch.long)
            c = 0
            for path in paths:
                dim, dim_sh = path.ir_out.dim, path.ir_sh.dim
                j = slices_sh[path.j].start + path.v * dim_sh
                couplings[j : j + dim_sh, :, c : c + dim] = table.coefficients(path).transpose(0, 1)
                channels = torch.arange(mul)[:, None]
                weights[:, c : c + dim] = path.weights[0] + path.weights[1] * channels
                targets[:, c : c + dim] = slices_out[path.k].start + dim * channels + torch.arange(dim)
                c += dim
            n = len(self._inputs)
            self._couplings.append(couplings.flatten(1))
            self.register_buffer(f"weights_{n}", weights.flatten(), False)
            self._inputs.append((slices_in[i].start, mul, ir_in.dim, columns))
            order.append(targets.flatten())
        self.register_buffer("order", torch.cat(order), False)

    def messages(self, x_j: Tensor, sh: Tensor, weight: Tensor) -> Tensor:
        """Return the tensor product of each edge, ``[E, irreps_out.dim]``."""
        return self._sort(self._products(x_j, sh, weight))

    def forward(self, x: Tensor, sh: Tensor, weight: Tensor, edge_index: Tensor, num_nodes: int) -> Tensor:
        """Return the sum of the messages at each receiver, ``[num_nodes, irreps_out.dim]``."""
        products = self._products(x.index_select(0, edge_index[0]), sh, weight)
        return self._sort(products.new_zeros(num_nodes, products.shape[1]).index_add(0, edge_index[1], products))

    def _products(self, x_j: Tensor, sh: Tensor, weight: Tensor) -> Tensor:
        edges = x_j.shape[0]
        parts = []
        for n, (start, mul, dim, columns) in enumerate(self._inputs):
            maps = (sh @ self._couplings[n].to(sh)).view(edges, dim, columns)
            x_i = x_j[:, start : start + mul * dim].reshape(edges, mul, dim)
            weights = weight.index_select(1, getattr(self, f"weights_{n}"))
            parts.append(torch.bmm(x_i, maps).view(edges, mul * columns) * weights)
        return torch.cat(parts, dim=1)

    def _sort(self, products: Tensor) -> Tensor:
        return products.new_zeros(products.shape[0], self.dim_out).index_add(1, self.order, products)
