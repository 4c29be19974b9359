"""What a point group leaves unchanged: representations, projectors, invariants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..checks import check_orthogonal
from ..compat import o3
from .point_groups import PointGroup, is_closed, point_group

if TYPE_CHECKING:
    from ..typing import IrrepsLike


def representation(irreps: IrrepsLike, R: Tensor | np.ndarray) -> Tensor:
    r"""Return the matrices of elements of O(3) in a direct sum of irreps, in float64, exact to rounding.

    The degree l = 1 is the Cartesian vector (x, y, z), so :math:`D^{(1)}` of a rotation is the rotation; the others
    follow from :math:`D^{(l)} = C^T (D^{(l-1)} \otimes D^{(1)})\, C` with Clebsch-Gordan coefficients :math:`C`.
    (e3nn's own matrices have the precision of torch's default dtype, whatever the dtype of R.)

    Args:
        irreps (o3.Irreps or str): The irreps.
        R (Tensor or ndarray): Orthogonal matrices ``[..., 3, 3]``.

    Returns:
        Tensor: ``[..., irreps.dim, irreps.dim]``.

    Example::

        >>> representation("1o+1e", -torch.eye(3)).diagonal()
        tensor([-1., -1., -1.,  1.,  1.,  1.], dtype=torch.float64)
    """
    irreps = o3.Irreps(irreps)
    R = torch.as_tensor(R, dtype=torch.float64)
    sign = torch.det(R).round()[..., None, None]
    degrees = wigner_matrices(irreps.lmax if irreps.dim else 0, R * sign)
    D = R.new_zeros(*R.shape[:-2], irreps.dim, irreps.dim)
    for (mul, ir), s in zip(irreps, irreps.slices(), strict=True):
        for start in range(s.start, s.start + mul * ir.dim, ir.dim):
            block = slice(start, start + ir.dim)
            D[..., block, block] = degrees[ir.l] * (sign if ir.p == -1 else 1.0)
    return D


def wigner_matrices(lmax: int, R: Tensor) -> list[Tensor]:
    """Return the matrices ``[..., 2 l + 1, 2 l + 1]`` of proper rotations ``[..., 3, 3]`` for l = 0 to ``lmax``."""
    degrees = [torch.ones_like(R[..., :1, :1]), R]
    for l in range(2, lmax + 1):
        C = o3.wigner_3j(l - 1, 1, l, dtype=torch.float64) * (2 * l + 1) ** 0.5
        degrees.append(torch.einsum("abm,...ac,...bd,cdn->...mn", C, degrees[-1], R, C))
    return degrees[: lmax + 1]


def generators(irreps: IrrepsLike) -> Tensor:
    r"""Return the derivatives of :math:`D` by the angle of rotations about x, y and z: ``[3, dim, dim]``, float64.

    Example::

        >>> generators("1o")[2].round()[:, 0]  # about z, x moves to y
        tensor([0., 1., 0.], dtype=torch.float64)
    """
    irreps = o3.Irreps(irreps)
    L = torch.zeros(3, irreps.dim, irreps.dim, dtype=torch.float64)
    for (mul, ir), s in zip(irreps, irreps.slices(), strict=True):
        if ir.l == 0:
            continue
        # The coupling l x 1 -> l is unique, so the generators are its coefficients up to scale. The sign of these
        # differs between releases of e3nn; that of a generator follows from [L_x, L_y] = L_z.
        C = o3.wigner_3j(ir.l, 1, ir.l, dtype=torch.float64).transpose(0, 1)
        sign = torch.sign(((C[0] @ C[1] - C[1] @ C[0]) * C[2]).sum())
        for start in range(s.start, s.start + mul * ir.dim, ir.dim):
            block = slice(start, start + ir.dim)
            L[:, block, block] = sign * (ir.l * (ir.l + 1) * (2 * ir.l + 1)) ** 0.5 * C
    return L


def projector(group: str | PointGroup | np.ndarray, irreps: IrrepsLike) -> Tensor:
    """Return the orthogonal projector on the invariants of a group, ``[irreps.dim, irreps.dim]``, float64.

    It is the mean of D(g) over the group; of a continuous group, over its components after its rotations.

    Args:
        group (str, PointGroup or ndarray): Symbol, group, or Cartesian operations ``[n, 3, 3]``.
        irreps (o3.Irreps or str): The irreps.

    Raises:
        ValueError: If the symbol is unknown or the operations are no group of orthogonal matrices.

    Example::

        >>> projector("4mm", "1o").diagonal()
        tensor([0., 0., 1.], dtype=torch.float64)
    """
    irreps = o3.Irreps(irreps)
    if isinstance(group, str):
        group = point_group(group)
    operations = group.operations if isinstance(group, PointGroup) else np.asarray(group, dtype=float)
    check_orthogonal(torch.as_tensor(operations))
    if not isinstance(group, PointGroup) and not is_closed(operations):
        raise ValueError(f"these {len(operations)} operations are not closed under multiplication: not a group")
    P = representation(irreps, operations).mean(0)
    if isinstance(group, PointGroup) and group.is_continuous:
        P = P @ _rotation_mean(irreps, group.axis)
    # Rounding noise would let a forbidden component creep in.
    P = torch.where(P.abs() < 1e-13, 0.0, P)
    return (P + P.T) / 2


def invariants(group: str | PointGroup | np.ndarray, irreps: IrrepsLike) -> Tensor:
    """Return an orthonormal basis of what a group leaves unchanged, ``[k, irreps.dim]``, float64.

    Args:
        group (str, PointGroup or ndarray): Symbol, group, or Cartesian operations ``[n, 3, 3]``.
        irreps (o3.Irreps or str): The irreps.

    Example::

        >>> invariants("4mm", "1o+1e").shape
        torch.Size([1, 6])
    """
    values, vectors = torch.linalg.eigh(projector(group, irreps))
    return vectors[:, values > 0.5].T


def _rotation_mean(irreps: o3.Irreps, axis: np.ndarray | None) -> Tensor:
    """Return the mean of D over all rotations, or over those about an axis."""
    if axis is None:
        scalar = torch.cat([torch.full((mul * ir.dim,), float(ir.l == 0)) for mul, ir in irreps])
        return torch.diag(scalar).double()
    # Equally spaced angles integrate trigonometric polynomials of degree l exactly.
    angles = torch.arange(irreps.lmax + 1, dtype=torch.float64) * (2 * torch.pi / (irreps.lmax + 1))
    turns = o3.axis_angle_to_matrix(torch.as_tensor(axis).expand(len(angles), 3), angles)
    return representation(irreps, turns).mean(0)
