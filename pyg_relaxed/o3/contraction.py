"""Theta contracted with Clebsch-Gordan coefficients: a few small matrices for the whole layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..compat import o3
from .constants import ExactConstants
from .weights import SCALAR


class Path(NamedTuple):
    """One way for a copy of an irrep of theta to map one irrep to another."""

    theta: slice
    ir_theta: o3.Irrep
    ir_in: o3.Irrep
    ir_out: o3.Irrep


def clebsch_gordan(l1: int, l2: int, l3: int) -> Tensor:
    r"""Return :math:`\sqrt{2 l_3 + 1}` times the real Wigner 3j symbol, ``[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]``, float64.

    With this normalisation ("component" in e3nn) coupling with the scalar 1 is the identity.
    """
    return o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5


def copies(irreps: o3.Irreps) -> list[tuple[int, o3.Irrep, slice]]:
    """Return every copy of every irrep: its number within its term, the irrep, its slice."""
    return [
        (u, ir, slice(s.start + u * ir.dim, s.start + (u + 1) * ir.dim))
        for (mul, ir), s in zip(irreps, irreps.slices(), strict=True)
        for u in range(mul)
    ]


class Coupling(ExactConstants):
    r"""The matrices :math:`T_p(\theta)_{ij} = \sum_t \theta_t C^{(p)}_{tij}` of a list of paths, flat.

    Only non-zero Clebsch-Gordan coefficients are stored.

    Args:
        paths (list[Path]): The paths.
        targets (list[Tensor]): For each path, where entry ``ij`` goes in the flat result, shape ``[dim_in, dim_out]``.
        size (int): Length of the flat result.
        scales (list[float], optional): A constant factor for each path.
    """

    path: Tensor
    component: Tensor
    target: Tensor
    value: Tensor

    def __init__(self, paths: list[Path], targets: list[Tensor], size: int, scales: list[float] | None = None) -> None:
        super().__init__()
        self.size = size
        columns: list[list[Tensor]] = [[], [], [], []]
        for p, (path, target) in enumerate(zip(paths, targets, strict=True)):
            C = clebsch_gordan(path.ir_theta.l, path.ir_in.l, path.ir_out.l) * (1.0 if scales is None else scales[p])
            t, i, j = torch.nonzero(C.abs() > 1e-12, as_tuple=True)
            for column, entries in zip(
                columns, (torch.full_like(t, p), t + path.theta.start, target[i, j], C[t, i, j]), strict=True
            ):
                column.append(entries)
        for name, column in zip(("path", "component", "target"), columns, strict=False):
            self.register_buffer(name, torch.cat(column) if column else torch.zeros(0, dtype=torch.long), False)
        self.register_constant("value", torch.cat([torch.zeros(0, dtype=torch.float64), *columns[3]]))

    def forward(self, theta: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the flat matrices of theta ``[..., dim]``, paths multiplied by a ``weight`` ``[paths]`` if given."""
        entries = theta[..., self.component] * self.value
        if weight is not None:
            entries = entries * weight[self.path]
        return entries.new_zeros(*theta.shape[:-1], self.size).index_add(-1, self.target, entries)


class ThetaContraction(ExactConstants):
    r"""The linear map :math:`y \mapsto \theta \otimes_V y`, built as one matrix from theta.

    The paths of 0e carry the fixed weight 1 (their mean, where theta has several), so that a scalar theta of 1 is the
    identity; every other path (one per copy of an irrep in theta, input and output that the selection rules of O(3)
    allow) has a learnable weight :math:`V`. This is the inner product of arXiv 2407.20471, eq. 5.

    Args:
        irreps_theta (o3.Irreps or str): Irreps of theta.
        irreps_in (o3.Irreps or str): Irreps of ``y``, e.g. the spherical harmonics of the edges.
        irreps_out (o3.Irreps or str): Irreps of the result.

    Shapes:
        - **input:** theta ``[..., irreps_theta.dim]``
        - **output:** matrix ``B`` of shape ``[..., irreps_in.dim, irreps_out.dim]``, applied as ``y @ B``

    Example::

        >>> contraction = ThetaContraction("0e+1o", "0e+1o", "0e+1o")
        >>> contraction(torch.tensor([1.0, 0, 0, 0])).equal(torch.eye(4))
        True
    """

    identity: Tensor
    scalars: Tensor

    def __init__(self, irreps_theta: o3.Irreps | str, irreps_in: o3.Irreps | str, irreps_out: o3.Irreps | str) -> None:
        super().__init__()
        self.irreps_theta = o3.Irreps(irreps_theta)
        self.irreps_in = o3.Irreps(irreps_in)
        self.irreps_out = o3.Irreps(irreps_out)
        self.shape = (self.irreps_in.dim, self.irreps_out.dim)
        self.register_constant("scalars", scalar_mean(self.irreps_theta))
        self.register_constant("identity", self._identity())

        flat = torch.arange(self.shape[0] * self.shape[1]).view(self.shape)
        paths, targets = [], []
        for _, ir_t, s_t in copies(self.irreps_theta):
            for _, ir_i, s_i in copies(self.irreps_in):
                for _, ir_o, s_o in copies(self.irreps_out):
                    if ir_t != SCALAR and ir_o in ir_t * ir_i:
                        paths.append(Path(s_t, ir_t, ir_i, ir_o))
                        targets.append(flat[s_i, s_o])
        self.coupling = Coupling(paths, targets, flat.numel())
        self.weight = torch.nn.Parameter(torch.empty(len(paths)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the path weights from a normal distribution, as e3nn does."""
        torch.nn.init.normal_(self.weight)

    def forward(self, theta: Tensor) -> Tensor:
        """Return the matrix of the map for this theta."""
        scalar = (theta @ self.scalars)[..., None, None]
        return scalar * self.identity + self.coupling(theta, self.weight).unflatten(-1, self.shape)

    def _identity(self) -> Tensor:
        # Copy u of an irrep goes to every copy of the output that is u modulo the input's multiplicity.
        matrix = torch.zeros(self.shape, dtype=torch.float64)
        for (mul, ir_i), s_i in zip(self.irreps_in, self.irreps_in.slices(), strict=True):
            for u, ir_o, s_o in copies(self.irreps_out):
                if ir_i == ir_o and mul > 0:
                    start = s_i.start + (u % mul) * ir_i.dim
                    matrix[start : start + ir_i.dim, s_o] = torch.eye(ir_i.dim)
        return matrix

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.irreps_theta} x {self.irreps_in} -> {self.irreps_out} | "
            f"{self.weight.numel()} weights)"
        )


def scalar_mean(irreps_theta: o3.Irreps) -> Tensor:
    """Return the vector whose product with theta is the mean of its 0e components, ``[irreps_theta.dim]``, float64."""
    mean = torch.zeros(irreps_theta.dim, dtype=torch.float64)
    for _, ir, s in copies(irreps_theta):
        if ir == SCALAR:
            mean[s] = 1 / irreps_theta.count(SCALAR)
    return mean
