"""One layer of a network: relaxed convolution, then gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..compat import o3
from ..o3 import RelaxedWeights
from ..o3.grouped import Groups
from ..o3.linear import as_weights
from .conv import RelaxedConv
from .gate import Gate

if TYPE_CHECKING:
    from ..typing import IrrepsLike, ThetaLike


class RelaxedInteraction(torch.nn.Module):
    """A relaxed convolution with self-connection, followed by a gate.

    The irreps of ``irreps_hidden`` that no path reaches from ``irreps_in`` are left out of the output.

    Args:
        irreps_in (o3.Irreps or str): Irreps of the node features.
        irreps_hidden (o3.Irreps or str): Irreps wanted after the gate.
        irreps_sh (o3.Irreps or str): Irreps of the spherical harmonics.
        irreps_theta (o3.Irreps, str, int, RelaxedWeights or None, optional): Irreps of theta.
        layout (str, optional): Of the features: ``"mul_ir"``, e3nn's, or ``"ir_mul"``, channels innermost.
            (default: ``"mul_ir"``)
        **kwargs (optional): Additional arguments of :class:`RelaxedConv`.

    Shapes:
        - **input:** node features, edge indices, what ``conv.embed_edges`` returns, once for layers
          that agree on cutoff, envelope and number of neighbours
        - **output:** node features ``[N, irreps_out.dim]``

    Example::

        >>> RelaxedInteraction("4x0e", "4x0e+2x0o+2x1o+2x1e", "0e+1o").irreps_out
        4x0e+2x1o
    """

    def __init__(
        self,
        irreps_in: IrrepsLike,
        irreps_hidden: IrrepsLike,
        irreps_sh: IrrepsLike,
        irreps_theta: ThetaLike | RelaxedWeights = None,
        layout: str = "mul_ir",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        theta = as_weights(irreps_theta)
        self.irreps_in = o3.Irreps(irreps_in)
        self.irreps_out = reachable(
            self.irreps_in,
            o3.Irreps(irreps_hidden),
            o3.Irreps(irreps_sh),
            None if theta is None else theta.irreps_theta,
        )
        self.gate = Gate(self.irreps_out, layout)
        self.irreps_out = self.gate.irreps_out
        self.conv = RelaxedConv(self.irreps_in, self.gate.irreps_in, irreps_sh, theta, layout=layout, **kwargs)

    def reset_parameters(self) -> None:
        """Draw new weights and return theta to its equivariant starting point."""
        self.conv.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        length: Tensor,
        edge_features: Tensor,
        theta: Tensor | None = None,
        groups: tuple[Groups, Groups] | None = None,
    ) -> Tensor:
        """Return the new node features; ``theta`` and ``groups`` as in :meth:`RelaxedConv.convolve`."""
        return self.gate(self.conv.convolve(x, edge_index, length, edge_features, theta=theta, groups=groups))


def reachable(
    irreps_in: o3.Irreps, irreps_hidden: o3.Irreps, irreps_sh: o3.Irreps, irreps_theta: o3.Irreps | None
) -> o3.Irreps:
    """Return the part of ``irreps_hidden`` that a convolution, theta included, can reach from ``irreps_in``."""
    sums = {ir for _, a in irreps_in for _, b in irreps_sh for ir in a * b} | {ir for _, ir in irreps_in}
    if irreps_theta is not None:
        sums |= {ir for a in sums for _, t in irreps_theta for ir in a * t}
    return o3.Irreps([(mul, ir) for mul, ir in irreps_hidden if ir in sums])
