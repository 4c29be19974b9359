"""The group that leaves weights unchanged: within a parent group, or in all of O(3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..compat import o3
from ..o3 import PointGroup, generators, point_group, projector, representation
from ..o3.point_groups import CONTINUOUS, is_closed, rotation_onto
from .search import near_fixing, snap

if TYPE_CHECKING:
    from ..typing import IrrepsLike

LARGEST = 120  # elements of the largest finite group that is no prism's: m-3-5


@dataclass(frozen=True, eq=False, repr=False)
class Stabilizer(PointGroup):
    """A point group found from weights, with the distance of the weights from more symmetry.

    Args:
        nearest_larger (PointGroup, optional): The supergroup that the weights come closest to; None if there is none.
        distance (float): The part of theta, relative to its norm, that this supergroup forbids.
    """

    nearest_larger: PointGroup | None = None
    distance: float = float("inf")


def stabilizer(
    theta: Tensor, irreps: IrrepsLike, parent: str | PointGroup | None = None, tol: float = 1e-3
) -> Stabilizer:
    """Return the operations of O(3), or of a finite parent group, that fix theta.

    An operation is kept if it moves theta by at most ``tol`` times the norm of theta; a continuous group is recognised
    if it forbids at most that part of theta. How close the nearest larger group is stands in ``.nearest_larger`` and
    ``.distance``.

    Args:
        theta (Tensor): One vector ``[irreps.dim]`` or several ``[n, irreps.dim]``, all of which must be fixed.
        irreps (o3.Irreps or str): Irreps of theta.
        parent (str or PointGroup, optional): The finite group whose operations are tried.
            (default: :obj:`None`, all of O(3))
        tol (float, optional): Relative tolerance. (default: :obj:`1e-3`)

    Raises:
        ValueError: If the parent is continuous, theta has another dimension, or the kept operations form no group.

    Example::

        >>> stabilizer(torch.tensor([0.0, 0.0, 1.0]), "1o", parent="m-3m").hermann_mauguin
        '4mm'
        >>> stabilizer(torch.tensor([0.0, 0.0, 1.0]), "1o").hermann_mauguin
        '∞m'
    """
    irreps = o3.Irreps(irreps)
    theta = normalised(theta, irreps)
    return _in_o3(theta, irreps, tol) if parent is None else _in_parent(theta, irreps, finite(parent), tol)


def normalised(theta: Tensor, irreps: o3.Irreps) -> Tensor:
    """Return thetas as ``[n, irreps.dim]``, float64, each of norm 1 (or zero)."""
    theta = torch.as_tensor(theta).detach().double().cpu()
    if theta.shape[-1:] != (irreps.dim,):
        raise ValueError(f"'theta' must have last dimension {irreps.dim} for {irreps} (got {tuple(theta.shape)})")
    if not theta.isfinite().all():
        raise ValueError(f"'theta' must be finite (got {theta.tolist()})")
    theta = theta.reshape(-1, irreps.dim)
    return theta / theta.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def finite(parent: str | PointGroup) -> PointGroup:
    """Return a group by name, refusing the continuous ones."""
    group = point_group(parent)
    if group.is_continuous:
        raise ValueError(f"the parent group {group.hermann_mauguin} is continuous: name a finite one, e.g. 'm-3m'")
    return group


def forbidden(theta: Tensor, irreps: o3.Irreps, group: PointGroup) -> float:
    """Return the norm of the part of normalised thetas that a group forbids, the largest over the thetas."""
    return (theta - theta @ projector(group, irreps)).norm(dim=1).max().item()


def _in_parent(theta: Tensor, irreps: o3.Irreps, parent: PointGroup, tol: float) -> Stabilizer:
    moved = (torch.einsum("gij,nj->gni", representation(irreps, parent.operations), theta) - theta).norm(dim=2)
    moved = moved.amax(1).numpy()
    kept = parent.operations[moved <= tol]
    if not is_closed(kept):
        raise _no_group(moved, tol)
    group = PointGroup.from_operations(kept)
    larger = {}
    for R in parent.operations[moved > tol]:
        generated = _generated(group, R, parent)
        larger[generated.operations.tobytes()] = generated
    return _with_nearest(group, list(larger.values()), theta, irreps)


def _in_o3(theta: Tensor, irreps: o3.Irreps, tol: float) -> Stabilizer:
    continuous = _continuous(theta, irreps)
    distances = [forbidden(theta, irreps, group) for group in continuous]
    for group, distance in zip(continuous, distances, strict=True):
        if distance <= tol:
            supergroups = [other for other in continuous if other is not group and group.is_subgroup_of(other)]
            return _with_nearest(group, supergroups, theta, irreps)

    operations, moved = near_fixing(theta, irreps)
    kept = snap(operations[moved <= tol])
    if kept is None:
        raise _no_group(moved, tol)
    group = PointGroup.from_operations(kept)
    larger = [other for other in continuous if group.is_subgroup_of(other, tol=0.05)]
    for level in np.sort(moved[(moved > tol) & (moved < 1)])[: LARGEST - len(kept)]:
        grown = snap(operations[moved <= level])
        if grown is not None:
            larger.append(PointGroup.from_operations(grown))
            break
    return _with_nearest(group, larger, theta, irreps)


def _continuous(theta: Tensor, irreps: o3.Irreps) -> list[PointGroup]:
    """Return the continuous groups about the axis whose rotations move theta least, the largest first."""
    moved = torch.stack([(theta @ L.T).flatten() for L in generators(irreps)])
    axis = torch.linalg.eigh(moved @ moved.T)[1][:, 0].numpy()
    turn = rotation_onto(np.array([0.0, 0.0, 1.0]), axis)
    order = ["∞∞m", "∞∞", "∞/mm", "∞m", "∞/m", "∞2", "∞"]
    assert set(order) == set(CONTINUOUS)
    return [point_group(symbol).conjugate(turn) for symbol in order]


def _generated(group: PointGroup, R: np.ndarray, parent: PointGroup) -> PointGroup:
    """Return the subgroup of a finite parent generated by a group and one more operation."""
    operations = np.concatenate([group.operations, R[None]])
    while True:
        products = np.einsum("aij,bjk->abik", operations, operations).reshape(-1, 1, 3, 3)
        indices = np.unique(np.abs(products - parent.operations).max((2, 3)).argmin(1))
        if len(indices) == len(operations):
            return PointGroup.from_operations(parent.operations[indices])
        operations = parent.operations[indices]


def _with_nearest(group: PointGroup, larger: list[PointGroup], theta: Tensor, irreps: o3.Irreps) -> Stabilizer:
    fields = (group.operations, group.hermann_mauguin, group.schoenflies, group.is_continuous, group.axis)
    if not larger:
        return Stabilizer(*fields)
    distances = np.array([forbidden(theta, irreps, other) for other in larger])
    # Of groups that forbid the same the largest says most.
    nearest = min(
        np.flatnonzero(distances <= distances.min() + 1e-9),
        key=lambda i: (-larger[i].order, -len(larger[i].operations)),
    )
    return Stabilizer(*fields, nearest_larger=larger[nearest], distance=float(distances[nearest]))


def _no_group(moved: np.ndarray, tol: float) -> ValueError:
    return ValueError(
        f"the operations that leave theta unchanged within tol={tol} form no group: theta is that close to a higher "
        f"symmetry. Change tol: the largest moves below it are {np.sort(moved[moved <= tol])[-3:]}, the next "
        f"{np.sort(moved[moved > tol])[:3]}"
    )
