"""The subgroup of a parent group that leaves weights unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..compat import o3
from ..o3 import PointGroup, point_group, representation
from ..o3.point_groups import is_closed

if TYPE_CHECKING:
    from ..typing import IrrepsLike


def stabilizer(theta: Tensor, irreps: IrrepsLike, parent: str | PointGroup, tol: float = 1e-3) -> PointGroup:
    """Return the operations of a finite parent group that fix theta.

    An operation is kept if it moves theta by at most ``tol`` times the norm of theta.

    Args:
        theta (Tensor): One vector ``[irreps.dim]`` or several ``[n, irreps.dim]``, all of which must be fixed.
        irreps (o3.Irreps or str): Irreps of theta.
        parent (str or PointGroup): The finite group whose operations are tried.
        tol (float, optional): Relative tolerance. (default: :obj:`1e-3`)

    Raises:
        ValueError: If the parent is continuous, theta has another dimension, or the kept operations form no group.

    Example::

        >>> stabilizer(torch.tensor([0.0, 0.0, 1.0]), "1o", parent="m-3m").hermann_mauguin
        '4mm'
    """
    operations = _finite(parent)
    moved = moves(theta, irreps, operations)
    kept = operations[moved <= tol]
    if not is_closed(kept):
        raise ValueError(
            f"{len(kept)} operations leave theta unchanged within tol={tol}, but they form no group: theta is that "
            f"close to a higher symmetry. Change tol; the next operations move it by {np.sort(moved[moved > tol])[:3]}"
        )
    return PointGroup.from_operations(kept)


def moves(theta: Tensor, irreps: IrrepsLike, operations: np.ndarray) -> np.ndarray:
    """Return by how much each operation moves theta, relative to its norm, ``[n]``; the largest over several thetas."""
    irreps = o3.Irreps(irreps)
    theta = torch.as_tensor(theta).detach().double().cpu().view(-1, np.shape(theta)[-1])
    if theta.shape[1] != irreps.dim:
        raise ValueError(f"'theta' must have last dimension {irreps.dim} for {irreps} (got {tuple(theta.shape)})")
    D = representation(irreps, operations)
    distance = (torch.einsum("gij,nj->gni", D, theta) - theta).norm(dim=2)
    norm = theta.norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
    return (distance / norm).amax(1).numpy()


def _finite(parent: str | PointGroup) -> np.ndarray:
    group = point_group(parent)
    if group.is_continuous:
        raise ValueError(f"the parent group {group.hermann_mauguin} is continuous: name a finite one, e.g. 'm-3m'")
    return group.operations
