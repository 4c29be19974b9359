"""Radial weights: from the length of an edge to the weights of its tensor product."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn.math import soft_one_hot_linspace
from torch import Tensor

from ..compat import e3nn_nn

ENVELOPE_POWER = 6  # DimeNet, arXiv 2003.03123, eq. 8


def polynomial_envelope(length: Tensor, cutoff: float, p: int = ENVELOPE_POWER) -> Tensor:
    """Return the smooth cutoff of DimeNet, 1 at length 0, with its first two derivatives 0 at ``cutoff``.

    Polynomial of arXiv 2003.03123, eq. 8.

    Args:
        length (Tensor): Edge lengths ``[E]``, Å.
        cutoff (float): Radius beyond which the envelope is 0, Å.
        p (int, optional): Power of the leading term. (default: :obj:`6`)

    Example::

        >>> polynomial_envelope(torch.tensor([0.0, 5.0, 6.0]), cutoff=5.0)
        tensor([1., 0., 0.])
    """
    u = (length / cutoff).clamp(max=1.0)
    return 1 - u**p * ((p + 1) * (p + 2) / 2 - p * (p + 2) * u + p * (p + 1) / 2 * u**2)


class Radial(torch.nn.Module):
    """Bessel basis and a multilayer perceptron, from edge lengths to ``weight_numel`` weights.

    Args:
        weight_numel (int): Number of weights per edge.
        cutoff (float): Radius of the basis, Å.
        num_basis (int, optional): Number of Bessel functions (arXiv 2003.03123, eq. 7). (default: :obj:`8`)
        hidden (sequence of int, optional): Widths of the hidden layers, SiLU between them. (default: :obj:`(64,)`)
        edge_dim (int, optional): Number of scalar edge attributes beside the length. (default: :obj:`0`)

    Shapes:
        - **input:** lengths ``[E]`` in Å, scalar edge attributes ``[E, edge_dim]`` or :obj:`None`
        - **output:** weights ``[E, weight_numel]``

    Example::

        >>> Radial(40, cutoff=5.0)(torch.rand(7) * 5).shape
        torch.Size([7, 40])
    """

    def __init__(
        self,
        weight_numel: int,
        cutoff: float,
        num_basis: int = 8,
        hidden: Sequence[int] = (64,),
        edge_dim: int = 0,
    ) -> None:
        super().__init__()
        self.weight_numel = weight_numel
        self.cutoff = float(cutoff)
        self.num_basis = num_basis
        self.edge_dim = edge_dim
        self.mlp = e3nn_nn.FullyConnectedNet([num_basis + edge_dim, *hidden, weight_numel], torch.nn.functional.silu)

    def reset_parameters(self) -> None:
        """Draw new weights from a normal distribution, as e3nn does."""
        for parameter in self.mlp.parameters():
            torch.nn.init.normal_(parameter)

    def forward(self, length: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        """Return the weights of each edge."""
        return self.hidden(length, edge_attr) @ self.matrix()

    def matrix(self) -> Tensor:
        """Return the matrix of the last layer, ``[H, weight_numel]``, scaled as e3nn does."""
        last = self.mlp[-1]
        return last.weight / (last.h_in * last.var_in / last.var_out) ** 0.5

    def hidden(self, length: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        """Return what the last layer is applied to, ``[E, H]``."""
        # At zero length the Bessel functions are 0 / 0.
        length = length.clamp(min=1e-6 * self.cutoff)
        basis = soft_one_hot_linspace(length, 0.0, self.cutoff, self.num_basis, basis="bessel", cutoff=True)
        # Unit second moment on average over the ball: e3nn's basis is normalised along the radius.
        basis = basis * self.num_basis**0.5
        if self.edge_dim:
            if edge_attr is None or edge_attr.shape != (length.shape[0], self.edge_dim):
                got = "None" if edge_attr is None else tuple(edge_attr.shape)
                raise ValueError(f"'edge_attr' must have shape ({length.shape[0]}, {self.edge_dim}) (got {got})")
            basis = torch.cat([basis, edge_attr], dim=1)
        elif edge_attr is not None:
            raise ValueError(f"this layer takes no 'edge_attr' (got {tuple(edge_attr.shape)}): pass edge_dim=...")
        for layer in list(self.mlp)[:-1]:
            basis = layer(basis)
        return basis

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.weight_numel}, cutoff={self.cutoff}, num_basis={self.num_basis})"
