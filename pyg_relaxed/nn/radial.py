"""Radial weights: from the length of an edge to the weights of its tensor product."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..compat import e3nn_nn
from ..kernels import perceptron
from ..o3.constants import ExactConstants

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


class Radial(ExactConstants):
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

    wave_numbers: Tensor
    scale: Tensor

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
        n = torch.arange(1, num_basis + 1, dtype=torch.float64)
        self.register_constant("wave_numbers", math.pi / self.cutoff * n)
        # Unit second moment on average over the ball: e3nn's basis is normalised along the radius.
        scale = [(2 * num_basis / self.cutoff) ** 0.5] * num_basis + [1.0] * edge_dim
        self.register_constant("scale", torch.tensor(scale, dtype=torch.float64).unsqueeze(1))
        self.mlp = e3nn_nn.FullyConnectedNet([num_basis + edge_dim, *hidden, weight_numel], torch.nn.functional.silu)

    def reset_parameters(self) -> None:
        """Draw new weights from a normal distribution, as e3nn does."""
        for parameter in self.mlp.parameters():
            torch.nn.init.normal_(parameter)

    def forward(self, length: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        """Return the weights of each edge."""
        return perceptron(*self.network(length, edge_attr))

    def network(self, length: Tensor, edge_attr: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return inputs ``[E, num_basis + edge_dim]`` and matrices of the :func:`perceptron` that gives the weights."""
        # At zero length, where tables begin, the Bessel functions are 0 / 0.
        length = length.clamp(min=1e-9 * self.cutoff).unsqueeze(1)
        basis = torch.sin(length * self.wave_numbers) / length
        if self.edge_dim:
            if edge_attr is None or edge_attr.shape != (length.shape[0], self.edge_dim):
                got = "None" if edge_attr is None else tuple(edge_attr.shape)
                raise ValueError(f"'edge_attr' must have shape ({length.shape[0]}, {self.edge_dim}) (got {got})")
            basis = torch.cat([basis, edge_attr], dim=1)
        elif edge_attr is not None:
            raise ValueError(f"this layer takes no 'edge_attr' (got {tuple(edge_attr.shape)}): pass edge_dim=...")
        return basis, self._matrices()

    def _matrices(self) -> list[Tensor]:
        # Constant factors of layers and activations, as e3nn has them, go to the matrices, which are small.
        layers = list(self.mlp)
        matrices = [layer.weight / layer.h_in**0.5 for layer in layers]
        matrices[0] = matrices[0] * self.scale
        for n, layer in enumerate(layers[:-1]):
            matrices[n + 1] = matrices[n + 1] * layer.act.cst
        return matrices

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.weight_numel}, cutoff={self.cutoff}, num_basis={self.num_basis})"
