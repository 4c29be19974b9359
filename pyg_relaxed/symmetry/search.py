"""Search of O(3) for the operations that leave weights nearly unchanged."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..compat import o3
from ..o3 import generators
from ..o3.invariants import wigner_matrices
from ..o3.point_groups import is_closed

COARSE_STEPS, FINE_STEPS = 6, 30  # of Gauss-Newton; it converges quadratically near an element
STARTS = 1500  # grid points, several for each element of the largest finite group
SAME = 0.05  # operations closer than this, entry by entry, are one


def near_fixing(theta: Tensor, irreps: o3.Irreps) -> tuple[np.ndarray, np.ndarray]:
    """Return the local minima over O(3) of the distance by which an operation moves theta.

    A grid finer than the features of the highest degree, refined by damped Gauss-Newton steps.

    Args:
        theta (Tensor): Vectors ``[n, irreps.dim]``, float64, not all invariant under a rotation about an axis.
        irreps (o3.Irreps): Their irreps.

    Returns:
        tuple: Operations ``[k, 3, 3]``, the identity first, and the distances ``[k]``.
    """
    degree = max(ir.l for _, ir in irreps)
    grid = _grid(math.radians(min(20.0, 60.0 / max(degree, 1))))
    found, moved = [], []
    for sign in (1.0, -1.0):
        distance = torch.cat([_residual(theta, irreps, part, sign).norm(dim=1) for part in grid.split(2000)])
        starts = grid[distance.argsort()[:STARTS]]
        coarse = _gauss_newton(theta, irreps, starts, sign, COARSE_STEPS)
        refined = _gauss_newton(theta, irreps, coarse[_distinct(coarse.numpy())], sign, FINE_STEPS)
        found.append(sign * refined)
        moved.append(_residual(theta, irreps, refined, sign).view(len(refined), len(theta), -1).norm(dim=2).amax(1))
    operations = torch.cat([torch.eye(3, dtype=torch.float64)[None], *found]).numpy()
    distances = torch.cat([torch.zeros(1, dtype=torch.float64), *moved]).numpy()
    order = distances.argsort(kind="stable")
    order = order[_distinct(operations[order])]
    return operations[order], distances[order]


def snap(operations: np.ndarray) -> np.ndarray | None:
    """Return the exact group that approximate operations ``[n, 3, 3]`` stand for; None if they stand for no group."""
    n = len(operations)
    overlap = _products(operations).reshape(n, n, 9) @ operations.reshape(n, 9).T  # 3 where they are equal
    table = overlap.argmax(2)
    if overlap.max(2).min() < 3 - 2 * SAME**2 or not (np.sort(table, axis=1) == np.arange(len(operations))).all():
        return None
    # Each element is the mean of the products that give it: errors die out, for a homomorphism nearby is rigid.
    for _ in range(8):
        mean = np.zeros_like(operations)
        np.add.at(mean, table.ravel(), _products(operations))
        U, _, V = np.linalg.svd(mean / n)
        operations = U @ V
    return operations if is_closed(operations, 1e-9) else None


def _products(operations: np.ndarray) -> np.ndarray:
    return (operations[:, None] @ operations[None]).reshape(-1, 3, 3)


def _distinct(operations: np.ndarray) -> list[int]:
    distinct: list[int] = []
    for i, R in enumerate(operations):
        if not distinct or np.abs(operations[distinct] - R).max((1, 2)).min() > SAME:
            distinct.append(i)
    return distinct


def _grid(spacing: float) -> Tensor:
    turns, tilts = round(2 * math.pi / spacing), round(math.pi / spacing)
    around = np.arange(turns) * 2 * math.pi / turns
    angles = np.stack(np.meshgrid(around, (np.arange(tilts) + 0.5) * math.pi / tilts, around), axis=-1).reshape(-1, 3)
    return torch.as_tensor(Rotation.from_euler("zyz", angles).as_matrix())


def _images(theta: Tensor, irreps: o3.Irreps, R: Tensor, sign: float) -> list[tuple[o3.Irrep, slice, Tensor]]:
    """Return the images ``[k, n, mul, dim]`` of each block of theta under ``sign`` times the rotations."""
    images = []
    D = wigner_matrices(irreps.lmax, R)
    for (mul, ir), s in zip(irreps, irreps.slices(), strict=True):
        parity = sign if ir.p == -1 else 1.0
        images.append((ir, s, parity * torch.einsum("kij,nuj->knui", D[ir.l], theta[:, s].view(-1, mul, ir.dim))))
    return images


def _residual(theta: Tensor, irreps: o3.Irreps, R: Tensor, sign: float) -> Tensor:
    parts = [image.flatten(2) - theta[:, s] for _, s, image in _images(theta, irreps, R, sign)]
    return torch.cat(parts, dim=2).flatten(1)


def _gauss_newton(theta: Tensor, irreps: o3.Irreps, R: Tensor, sign: float, steps: int) -> Tensor:
    L = {ir: generators(str(ir)) for _, ir in irreps}
    for _ in range(steps):
        images = _images(theta, irreps, R, sign)
        residual = torch.cat([image.flatten(2) - theta[:, s] for _, s, image in images], dim=2).flatten(1)
        slopes = [torch.einsum("aij,knuj->kanui", L[ir], image).flatten(3) for ir, _, image in images]
        J = torch.cat(slopes, dim=3).flatten(2)  # [k, 3, components]
        normal = J @ J.mT
        damping = 1e-9 + 1e-2 * residual.square().sum(1)
        step = -torch.linalg.solve(
            normal + damping[:, None, None] * torch.eye(3, dtype=torch.float64), (J @ residual[:, :, None])[:, :, 0]
        )
        step = step * (0.5 / step.norm(dim=1, keepdim=True).clamp(min=0.5))
        R = torch.as_tensor(Rotation.from_rotvec(step.numpy()).as_matrix()) @ R
        if step.abs().max() < 1e-12:
            break
    return R
