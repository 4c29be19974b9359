"""A cube deformed into a cube, a prism or a less symmetric shape, vertex by vertex.

The tasks of `arXiv 2407.20471 <https://arxiv.org/abs/2407.20471>`_: the symmetry that the target breaks is known, so
what a trained theta says can be checked. Vertices are in Å, those of all shapes in the order of the cube's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import Data

from ..checks import nearest
from ..compat import o3
from ..data import neighbour_list

CUTOFF: Final = 1.8  # Å: beyond the body diagonal, so that every vertex sees all others


def cube() -> Tensor:
    """Return the vertices of a cube of side 1 Å around the origin, ``[8, 3]``. Point group m-3m.

    Example:
        >>> cube()[:2]
        tensor([[-0.5000, -0.5000, -0.5000],
                [ 0.5000, -0.5000, -0.5000]])
    """
    signs = [(-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)]
    return torch.tensor(signs, dtype=torch.get_default_dtype()) / 2


def prism() -> Tensor:
    """Return the vertices of the cube, halved along x and y and doubled along z, ``[8, 3]``. Point group 4/mmm.

    Example:
        >>> prism()[6]
        tensor([0.2500, 0.2500, 1.0000])
    """
    return cube() * torch.tensor([0.5, 0.5, 2.0])


def less_symmetric() -> Tensor:
    """Return the vertices of a box of 1.2 x 1.5 x 1.8 Å with four of them moved, ``[8, 3]``. Point group 1.

    Example:
        >>> less_symmetric()[2]
        tensor([ 0.4800,  0.9000, -0.5400])
    """
    moved = [(-1, -1, -1), (1, -1, -1), (0.8, 1.2, -0.6), (-1.2, 0.8, -1.4)]
    moved += [(-0.7, -1.3, 1), (1.3, -0.7, 0.5), (1, 1, 1), (-1, 1, 1)]
    return torch.tensor(moved, dtype=torch.get_default_dtype()) * torch.tensor([0.6, 0.75, 0.9])


SHAPES: Final[dict[str, Callable[[], Tensor]]] = {"cube": cube, "prism": prism, "less_symmetric": less_symmetric}


def peaks(points: Tensor, lmax: int = 2) -> Tensor:
    r"""Return for each point the signal on the sphere that peaks towards it with its distance as the height.

    .. math:: y = \frac{\sqrt{4 \pi}}{(l_\text{max} + 1)^2}\, |r|\, Y(\hat r)

    with Y of ``normalization="component"``: the expansion of the peak up to ``lmax``, scaled so that the signal in the
    direction of the point is its distance (what e3nn's ``SphericalTensor.with_peaks_at`` gives for one point).

    Args:
        points: Shape ``[N, 3]``, in Å.
        lmax: Largest degree.

    Returns:
        Shape ``[N, (lmax + 1)**2]`` in irreps ``0e+1o+2e+...``, in Å.

    Raises:
        ValueError: For a negative degree, and for a point at the origin, which lies in no direction.

    Example:
        >>> peaks(torch.tensor([[0.0, 0.0, 2.0]]), lmax=1)
        tensor([[1.7725, 0.0000, 0.0000, 3.0700]])
    """
    if lmax < 0:
        raise ValueError(f"'lmax' must be a degree l >= 0 (got {lmax})")
    length = points.norm(dim=1, keepdim=True)
    if (length == 0).any():
        place = int((length == 0).nonzero()[0, 0])
        raise ValueError(
            f"point {place} is the origin and lies in no direction: move the origin off it, or leave it out"
        )
    Y = o3.spherical_harmonics(list(range(lmax + 1)), points, normalize=True, normalization="component")
    return math.sqrt(4 * math.pi) / (lmax + 1) ** 2 * length * Y


def deformation(name: str, lmax: int = 2, cutoff: float = CUTOFF) -> Data:
    """Return the task of deforming the cube into a shape, in torch's default dtype.

    Args:
        name: Of the target: ``"cube"``, ``"prism"`` or ``"less_symmetric"``.
        lmax: Largest degree of the target signal.
        cutoff: The edges are all pairs within it, in Å.

    Returns:
        ``x`` ``[8, 1]``, ones, 0e; ``pos`` ``[8, 3]``, the cube's vertices in Å; ``edge_index`` ``[2, E]``; ``target``
        ``[8, 3]``, the vertices of the shape in Å; ``y`` ``[8, (lmax + 1)**2]``, their :func:`peaks`.

    Raises:
        ValueError: For a shape or a degree that does not exist, and for a cutoff that is not positive.

    Example:
        >>> deformation("prism")
        Data(x=[8, 1], edge_index=[2, 56], y=[8, 9], pos=[8, 3], target=[8, 3])
    """
    if name not in SHAPES:
        raise ValueError(f"unknown shape '{name}': {nearest(name, SHAPES)}")
    pos, target = cube(), SHAPES[name]()
    edge_index, _ = neighbour_list(pos, torch.zeros(3, 3), [False] * 3, cutoff)
    return Data(x=torch.ones_like(pos[:, :1]), edge_index=edge_index, y=peaks(target, lmax), pos=pos, target=target)
