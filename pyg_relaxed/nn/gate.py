"""Gated nonlinearities."""

from __future__ import annotations

import torch
from e3nn.math import normalize2mom
from torch import Tensor

from ..checks import check_layout
from ..compat import o3
from ..o3.layout import Select, components, concatenate

ACTIVATIONS = {1: torch.nn.functional.silu, -1: torch.tanh}  # by parity: tanh is odd


class Gate(torch.nn.Module):
    """SiLU on 0e, tanh on 0o, and each other irrep multiplied by the SiLU of a 0e of its own.

    As :class:`e3nn.nn.Gate`, activations normalised as there, for both layouts of features.

    Args:
        irreps_out (o3.Irreps or str): Irreps of the output; scalars come first.
        layout (str, optional): ``"mul_ir"``, e3nn's, or ``"ir_mul"``, channels innermost. (default: ``"mul_ir"``)

    Shapes:
        - **input:** features ``[..., irreps_in.dim]``: scalars, gates, then what is gated
        - **output:** features ``[..., irreps_out.dim]``

    Example::

        >>> gate = Gate("4x0e+2x1o")
        >>> gate.irreps_in, gate(torch.randn(3, 12)).shape
        (6x0e+2x1o, torch.Size([3, 10]))
    """

    def __init__(self, irreps_out: o3.Irreps | str, layout: str = "mul_ir") -> None:
        super().__init__()
        check_layout(layout)
        self.layout = layout
        irreps = o3.Irreps(irreps_out)
        scalars = o3.Irreps([(mul, ir) for mul, ir in irreps if ir.l == 0])
        gated = o3.Irreps([(mul, ir) for mul, ir in irreps if ir.l > 0])
        gates = o3.Irreps([(gated.num_irreps, "0e")]) if gated.num_irreps else o3.Irreps()
        self.irreps_out = scalars + gated
        # Equal irreps stand together, as in what e3nn's gate takes.
        blocks, position, _ = (scalars + gates + gated).sort()
        self.irreps_in = blocks.simplify()
        self.sort = Select(_columns(blocks, self.irreps_in, position, layout), self.irreps_in.dim)
        self.activations = torch.nn.ModuleList(normalize2mom(ACTIVATIONS[ir.p]) for _, ir in scalars)
        self.gate_activation = normalize2mom(ACTIVATIONS[1])
        self._scalars = [mul for mul, _ in scalars]
        self._gated = [(mul, ir.dim) for mul, ir in gated]
        self._dims = [scalars.dim, gates.dim, gated.dim]

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated and gated features."""
        scalars, gates, gated = self.sort(x).split(self._dims, dim=-1)
        parts = zip(self.activations, scalars.split(self._scalars, dim=-1), strict=True)
        outputs = [activation(part) for activation, part in parts]
        if self._gated:
            blocks = gated.split([mul * dim for mul, dim in self._gated], dim=-1)
            factors = self.gate_activation(gates).split([mul for mul, _ in self._gated], dim=-1)
            for block, factor, (mul, dim) in zip(blocks, factors, self._gated, strict=True):
                if self.layout == "mul_ir":
                    outputs.append((block.unflatten(-1, (mul, dim)) * factor.unsqueeze(-1)).flatten(-2))
                else:
                    outputs.append((block.unflatten(-1, (dim, mul)) * factor.unsqueeze(-2)).flatten(-2))
        return torch.cat(outputs, dim=-1)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.irreps_in} -> {self.irreps_out})"


def _columns(blocks: o3.Irreps, merged: o3.Irreps, position: tuple[int, ...], layout: str) -> Tensor:
    """Return where in ``merged`` the components of each block are, taken at ``position`` in ``blocks``."""
    places: list[Tensor] = []
    for (_, ir), place in zip(merged, components(merged, layout), strict=True):
        places += place.split([block.mul for block in blocks if block.ir == ir])
    return concatenate(places[p] if layout == "mul_ir" else places[p].T for p in position)
