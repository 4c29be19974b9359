"""The symmetry-equivalent copies of theta: the domains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..o3 import PointGroup, representation
from .stabilizer import finite

if TYPE_CHECKING:
    from ..typing import IrrepsLike


def orbit(theta: Tensor, irreps: IrrepsLike, parent: str | PointGroup, tol: float = 1e-3) -> Tensor:
    """Return the distinct images of theta under a finite group, theta itself first.

    Args:
        theta (Tensor): A vector ``[irreps.dim]``.
        irreps (o3.Irreps or str): Its irreps.
        parent (str or PointGroup): The group.
        tol (float, optional): Images closer than this, relative to the norm of theta, are one. (default: :obj:`1e-3`)

    Returns:
        Tensor: ``[n_domains, irreps.dim]``, float64.

    Raises:
        ValueError: If the group is continuous.

    Example::

        >>> orbit(torch.tensor([0.0, 0.0, 1.0]), "1o", parent="m-3m").shape
        torch.Size([6, 3])
    """
    theta = torch.as_tensor(theta).detach().double().cpu()
    images = representation(irreps, finite(parent).operations) @ theta
    distinct: list[Tensor] = []
    for image in images:
        if all((image - other).norm() > tol * theta.norm() for other in distinct):
            distinct.append(image)
    return torch.stack(distinct)
