"""What all layers know of an edge: its length, its direction, how near the cutoff it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import check_cutoff, check_positive
from ..kernels import SphericalHarmonics
from .radial import polynomial_envelope

if TYPE_CHECKING:
    from ..typing import IrrepsLike


class EdgeEmbedding(torch.nn.Module):
    r"""Length of an edge, and :math:`\frac{u(r_{ij})}{\sqrt{\bar n}} Y(\hat r_{ij})`, once for all layers of a network.

    Args:
        irreps_sh (o3.Irreps or str): Irreps of the spherical harmonics :math:`Y`.
        cutoff (float): Radius of the neighbourhood, Å.
        num_neighbors (float, optional): Average number of neighbours :math:`\bar n`. (default: :obj:`1.0`)
        envelope (callable, optional): Function :math:`u` of (length, cutoff). (default: :func:`polynomial_envelope`)

    Shapes:
        - **input:** edge vectors ``[E, 3]``, Å
        - **output:** lengths ``[E]``, Å, and ``[E, irreps_sh.dim]``

    Example::

        >>> length, edge_sh = EdgeEmbedding("0e+1o", cutoff=5.0)(torch.tensor([[0.0, 0.0, 1.5]]))
        >>> length.item(), edge_sh.shape
        (1.5, torch.Size([1, 4]))
    """

    def __init__(
        self,
        irreps_sh: IrrepsLike,
        cutoff: float,
        num_neighbors: float = 1.0,
        envelope: Callable[[Tensor, float], Tensor] = polynomial_envelope,
    ) -> None:
        super().__init__()
        check_cutoff(cutoff)
        check_positive("num_neighbors", num_neighbors)
        self.spherical_harmonics = SphericalHarmonics(irreps_sh)
        self.cutoff = float(cutoff)
        self.num_neighbors = float(num_neighbors)
        self.envelope = envelope

    def forward(self, edge_vec: Tensor) -> tuple[Tensor, Tensor]:
        """Return lengths and features of the edges."""
        length = edge_vec.norm(dim=1)
        scale = self.envelope(length, self.cutoff) / self.num_neighbors**0.5
        return length, self.spherical_harmonics(edge_vec) * scale.unsqueeze(1)
