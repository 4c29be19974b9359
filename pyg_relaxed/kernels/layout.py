"""The two orders of components: e3nn's "mul_ir", channel by channel, and "ir_mul", channels innermost."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compat import o3


def places_in_ir_mul(irreps: o3.Irreps) -> Tensor:
    """Return where each component in layout "mul_ir" stands in layout "ir_mul"."""
    blocks = [
        s.start + torch.arange(mul * ir.dim).view(ir.dim, mul).T.flatten()
        for (mul, ir), s in zip(irreps, irreps.slices(), strict=True)
    ]
    return torch.cat(blocks) if blocks else torch.zeros(0, dtype=torch.long)
