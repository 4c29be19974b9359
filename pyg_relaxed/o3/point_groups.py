"""Point groups: the 32 crystallographic ones in one orientation, the 7 continuous ones, and any other finite one."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from ..checks import check_orthogonal
from ..compat import quiet_spglib

TOL = 1e-4  # between operations, which differ by 1/10 or more in the groups of interest

# Schoenflies, and coset representatives of the rotations about z (or of all rotations).
_X2, _MX, _MZ, _I = np.diag([1.0, -1, -1]), np.diag([-1.0, 1, 1]), np.diag([1.0, 1, -1]), -np.eye(3)
CONTINUOUS: dict[str, tuple[str, tuple[np.ndarray, ...], bool]] = {
    "∞": ("C∞", (), False),
    "∞m": ("C∞v", (_MX,), False),
    "∞/m": ("C∞h", (_MZ,), False),
    "∞2": ("D∞", (_X2,), False),
    "∞/mm": ("D∞h", (_X2, _MZ, -_X2 @ -_MZ), False),
    "∞∞": ("K", (), True),
    "∞∞m": ("Kh", (_I,), True),
}


# Further orientations of some point groups, by a space group that has them.
SETTINGS = {115: "-4m2", 149: "312", 150: "321", 156: "3m1", 157: "31m", 162: "-31m", 164: "-3m1", 189: "-62m"}


@dataclass(frozen=True, eq=False)
class PointGroup:
    """A subgroup of O(3) as Cartesian operations, with its names.

    Args:
        operations (ndarray): Elements ``[n, 3, 3]``, identity first. Of a continuous group: one for each of its
            connected components.
        hermann_mauguin (str): Short symbol, e.g. ``"4mm"``.
        schoenflies (str): Symbol, e.g. ``"C4v"``.
        is_continuous (bool): Whether it holds all rotations about :attr:`axis` (about every axis if that is None).
        axis (ndarray, optional): The ∞ axis ``[3]`` of a continuous group.

    Example::

        >>> group = point_group("4mm")
        >>> group.schoenflies, group.order
        ('C4v', 8)
    """

    operations: np.ndarray
    hermann_mauguin: str
    schoenflies: str
    is_continuous: bool = False
    axis: np.ndarray | None = None

    @property
    def order(self) -> float:
        """Number of elements, infinite for a continuous group."""
        return math.inf if self.is_continuous else len(self.operations)

    @classmethod
    def from_operations(cls, operations: np.ndarray) -> PointGroup:
        """Name a finite group from its Cartesian operations ``[n, 3, 3]``, in any orientation.

        Raises:
            ValueError: If they are not orthogonal, or do not form a group.
        """
        operations = np.asarray(operations, dtype=float).reshape(-1, 3, 3)
        check_orthogonal(torch.as_tensor(operations))
        distinct = [i for i, R in enumerate(operations) if not (np.abs(operations[:i] - R).max((1, 2)) < TOL).any()]
        operations = operations[distinct]  # centred lattices repeat theirs
        if not is_closed(operations):
            raise ValueError(f"these {len(operations)} operations are not closed under multiplication: not a group")
        first = np.abs(operations - np.eye(3)).max((1, 2)).argsort(kind="stable")[:1]
        operations = np.concatenate([operations[first], np.delete(operations, first, axis=0)])
        schoenflies = _schoenflies(operations)
        return cls(operations, _hermann_mauguin(schoenflies), schoenflies)

    @cached_property
    def axes(self) -> list[tuple[str, np.ndarray]]:
        """Symmetry elements: for each axis its symbol (``"4"``, ``"-3"``, ``"m"``, ``"2"``, ...) and unit direction."""
        found: dict[tuple[float, ...], tuple[int, str, np.ndarray]] = {}
        for R in self.operations:
            proper = np.linalg.det(R) > 0
            order, axis = rotation_order(R if proper else -R), rotation_axis(R if proper else -R)
            if axis is None:
                continue
            symbol = str(order) if proper else ("m" if order == 2 else f"-{order}")
            key = tuple(np.round(axis, 3) + 0.0)
            rank = 2 * order + proper
            if key not in found or rank > found[key][0]:
                found[key] = (rank, symbol, axis)
        return [(symbol, axis) for _, symbol, axis in sorted(found.values(), key=lambda e: -e[0])]

    def contains(self, R: np.ndarray, tol: float = TOL) -> bool:
        """Tell whether ``R`` is an element."""
        if not self.is_continuous:
            return bool((np.abs(self.operations - R).max((1, 2)) < tol).any())
        if self.axis is None:
            return bool(np.linalg.det(R) > 0) or len(self.operations) > 1
        # R g^-1 must be a rotation about the axis for one of the components.
        rest = R @ self.operations.transpose(0, 2, 1)
        return bool(((np.abs(rest @ self.axis - self.axis).max(1) < tol) & (np.linalg.det(rest) > 0)).any())

    def is_subgroup_of(self, other: PointGroup, tol: float = TOL) -> bool:
        """Tell whether every element is one of ``other``; of continuous groups the components and the axis count."""
        if self.is_continuous and not (
            other.is_continuous
            and (other.axis is None or (self.axis is not None and abs(self.axis @ other.axis) > 1 - tol))
        ):
            return False
        return all(other.contains(R, tol) for R in self.operations)

    def conjugate(self, R: np.ndarray) -> PointGroup:
        """Return the group in axes rotated by ``R``: its elements are ``R g R^-1``."""
        axis = None if self.axis is None else R @ self.axis
        return PointGroup(R @ self.operations @ R.T, self.hermann_mauguin, self.schoenflies, self.is_continuous, axis)

    def to_dict(self) -> dict[str, Any]:
        """Return names and operations as plain Python values."""
        return {
            "hermann_mauguin": self.hermann_mauguin,
            "schoenflies": self.schoenflies,
            "order": None if self.is_continuous else len(self.operations),
            "axis": None if self.axis is None else self.axis.tolist(),
            "operations": np.round(self.operations, 12).tolist(),
        }

    def __len__(self) -> int:
        if self.is_continuous:
            raise TypeError(f"the group {self.hermann_mauguin} is infinite: use .order")
        return len(self.operations)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"PointGroup({self.hermann_mauguin}, {self.schoenflies}, order {self.order})"


def point_group(symbol: str | PointGroup) -> PointGroup:
    """Return one of the 32 crystallographic or the 7 continuous point groups by its symbol.

    Orientation: principal axis along z (monoclinic: unique axis b along y), a along x; of trigonal and hexagonal groups
    b is at 120° from a, and the first setting of the International Tables is taken (3m is 3m1); symbols such as 31m and
    -62m name the others. Operations come from spglib's database. Continuous groups have their axis along z; "oo" or
    "inf" may stand for "∞".

    Args:
        symbol (str or PointGroup): Hermann-Mauguin or Schoenflies symbol; a group passes through.

    Raises:
        ValueError: If there is no such group; the nearest symbols are named.

    Example::

        >>> point_group("Oh")
        PointGroup(m-3m, Oh, order 48)
        >>> point_group("oom").schoenflies
        'C∞v'
    """
    if isinstance(symbol, PointGroup):
        return symbol
    key = symbol.strip().replace("inf", "∞").replace("oo", "∞")
    for hermann_mauguin, (schoenflies, cosets, spherical) in CONTINUOUS.items():
        if key in (hermann_mauguin, schoenflies):
            axis = None if spherical else np.array([0.0, 0.0, 1.0])
            return PointGroup(np.array([np.eye(3), *cosets]), hermann_mauguin, schoenflies, True, axis)
    groups = _crystallographic()
    if key in groups:
        return groups[key]
    nearest = difflib.get_close_matches(key, [*groups, *CONTINUOUS], n=3) or list(groups)[::2]
    raise ValueError(f"unknown point group '{symbol}'. Did you mean {', '.join(nearest)}?")


def is_closed(operations: np.ndarray, tol: float = TOL) -> bool:
    """Tell whether a set of operations ``[n, 3, 3]`` is closed under multiplication, and not empty."""
    products = np.einsum("aij,bjk->abik", operations, operations).reshape(-1, 1, 3, 3)
    return len(operations) > 0 and bool((np.abs(products - operations).max((2, 3)) < tol).any(1).all())


@cache
def _crystallographic() -> dict[str, PointGroup]:
    import spglib

    groups: dict[str, PointGroup] = {}
    for hall in range(1, 531):
        with quiet_spglib():
            kind, rotations = spglib.get_spacegroup_type(hall), spglib.get_symmetry_from_database(hall)["rotations"]
        names = {kind.pointgroup_international, SETTINGS.get(kind.number)} - {None, *groups}
        if not names:
            continue
        columns = np.eye(3)
        if any(abs(W).sum() > 3 for W in rotations):  # hexagonal axes
            columns = np.array([[1, -0.5, 0], [0, 3**0.5 / 2, 0], [0, 0, 1]])
        # A set: centred lattices repeat their rotations.
        unique = np.unique(rotations, axis=0)
        group = PointGroup.from_operations(columns @ unique @ np.linalg.inv(columns))
        groups.update(dict.fromkeys(names, group))
        groups.setdefault(group.schoenflies, group)
    return groups


def rotation_onto(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the smallest rotation ``[3, 3]`` that turns one unit vector onto another."""
    if start @ end < 0:  # stay away from the half turn, whose axis is undefined
        half = -np.eye(3) + 2 * np.outer(*[_perpendicular(start)] * 2)
        return rotation_onto(half @ start, end) @ half
    v = np.cross(start, end)
    K = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + K + K @ K / (1 + start @ end)


def rotation_order(R: np.ndarray) -> int:
    """Return the order of a proper rotation."""
    angle = math.acos(min(1.0, max(-1.0, (np.trace(R) - 1) / 2)))
    if angle < 1e-3:
        return 1
    turns = angle / (2 * math.pi)
    return next((n for n in range(2, 41) if abs(turns * n - round(turns * n)) < 1e-3 * n), 41)


def rotation_axis(R: np.ndarray) -> np.ndarray | None:
    """Return the axis of a proper rotation, its last non-zero component positive; None for the identity."""
    if np.abs(R - np.eye(3)).max() < 1e-3:
        return None
    axis = np.linalg.svd(R - np.eye(3))[2][2]
    last = np.nonzero(np.abs(axis) > 1e-6)[0][-1]
    return axis * np.sign(axis[last])


def _perpendicular(axis: np.ndarray) -> np.ndarray:
    other = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    return other / np.linalg.norm(other)


def _schoenflies(operations: np.ndarray) -> str:
    dets = np.linalg.det(operations)
    proper, improper = operations[dets > 0], -operations[dets < 0]
    orders = [rotation_order(R) for R in proper]
    n = max(orders)
    inversion = any(rotation_order(R) == 1 for R in improper)
    mirrors = [axis for R in improper if rotation_order(R) == 2 and (axis := rotation_axis(R)) is not None]
    main = [
        axis for R, order in zip(proper, orders, strict=True) if order == n and (axis := rotation_axis(R)) is not None
    ]
    if n > 2 and any(abs(main[0] @ axis) < 0.99 for axis in main):
        name = {12: "T", 24: "O", 60: "I"}[len(proper)]
        return name + ("" if not len(improper) else "h" if inversion else "d")
    if not len(improper):
        return f"{'C' if len(proper) == n else 'D'}{n}"
    horizontal = any(abs(main[0] @ axis) > 0.99 for axis in mirrors) if main else bool(mirrors)
    if len(proper) == n:
        if horizontal:
            return "Cs" if n == 1 else f"C{n}h"
        if mirrors:
            return f"C{n}v"
        return {1: "Ci", 3: "C3i"}.get(n, f"S{2 * n}")
    if n == 2:
        return "D2h" if inversion else "D2d"
    return f"D{n}{'h' if horizontal else 'd'}"


def _hermann_mauguin(schoenflies: str) -> str:
    fixed = {
        "Ci": "-1", "Cs": "m", "C3i": "-3", "C2v": "mm2", "D2": "222", "D2h": "mmm", "T": "23", "Th": "m-3",
        "Td": "-43m", "O": "432", "Oh": "m-3m", "I": "235", "Ih": "m-3-5",
    }  # fmt: skip
    if schoenflies in fixed:
        return fixed[schoenflies]
    kind, rest = schoenflies[0], schoenflies[1:]
    n, suffix = int(rest.rstrip("vhd")), rest.lstrip("0123456789")
    odd = n % 2 == 1
    return {
        ("S", ""): f"-{n // 2}" if n % 4 == 2 else f"-{n}",
        ("C", ""): f"{n}",
        ("C", "v"): f"{n}m" if odd else f"{n}mm",
        ("C", "h"): f"-{2 * n}" if odd else f"{n}/m",
        ("D", ""): f"{n}2" if odd else f"{n}22",
        ("D", "h"): f"-{2 * n}m2" if odd else f"{n}/mmm",
        ("D", "d"): f"-{n}m" if odd else f"-{2 * n}2m",
    }[(kind, suffix)]
