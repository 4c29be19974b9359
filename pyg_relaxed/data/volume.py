"""Whether lattice vectors span a volume, judged in one place."""

from __future__ import annotations

import torch
from torch import Tensor


def cell_volume(cell: Tensor) -> Tensor:
    """Return the volume of cells, exactly zero where their vectors are not independent.

    The determinant of vectors in one plane is rounding noise, not zero: what counts is its size beside that of a box
    with the same edges.

    Args:
        cell: Lattice vectors as rows, shape ``[..., 3, 3]``, in Å.

    Returns:
        Shape ``[...]``, in Å³.

    Example:
        >>> plane = torch.tensor([[1.0, 0.1, 0.3], [0.7, 0.2, 0.1], [1.7, 0.3, 0.4]])
        >>> cell_volume(torch.stack([plane, 2 * torch.eye(3)])).tolist()
        [0.0, 8.0]
    """
    a, b, c = cell.unbind(-2)
    box = (torch.linalg.cross(a, b) * c).sum(-1).abs()  # AOTInductor has no code of its own for a determinant
    noise = max(1e-6, 16 * torch.finfo(cell.dtype).eps) * cell.detach().norm(dim=-1).prod(dim=-1)
    return box.masked_fill(box <= noise, 0.0)
