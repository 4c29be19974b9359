"""The two layouts of features: e3nn's ``"mul_ir"``, and ``"ir_mul"`` with channels innermost, the faster one."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compat import o3


def places_in_ir_mul(irreps: o3.Irreps) -> Tensor:
    """Return where each component in layout "mul_ir" stands in layout "ir_mul", ``[irreps.dim]``.

    Example::

        >>> places_in_ir_mul(o3.Irreps("2x1o"))
        tensor([0, 2, 4, 1, 3, 5])
    """
    blocks = [
        s.start + torch.arange(mul * ir.dim).view(ir.dim, mul).T.flatten()
        for (mul, ir), s in zip(irreps, irreps.slices(), strict=True)
    ]
    return torch.cat(blocks) if blocks else torch.zeros(0, dtype=torch.long)


class ChangeOfLayout(torch.nn.Module):
    """Features from one layout to the other; nothing is done where the two are the same.

    Args:
        irreps (o3.Irreps or str): Irreps of the features.
        layout (str): The layout to change to, ``"mul_ir"`` or ``"ir_mul"``.
    """

    order: Tensor

    def __init__(self, irreps: o3.Irreps | str, layout: str) -> None:
        super().__init__()
        order = places_in_ir_mul(o3.Irreps(irreps))
        self.register_buffer("order", order if layout == "mul_ir" else order.argsort(), False)
        self._is_identity = order.equal(torch.arange(len(order)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features ``[N, irreps.dim]`` in the other layout."""
        return x if self._is_identity else x.index_select(-1, self.order)
