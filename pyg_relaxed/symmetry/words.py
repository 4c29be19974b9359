"""Directions, operations and tensors in the words of crystallography."""

from __future__ import annotations

from itertools import product
from math import gcd

import numpy as np

from ..compat import o3
from ..o3.contraction import clebsch_gordan
from ..o3.point_groups import rotation_axis, rotation_order

ANGLE = 1.0  # degrees within which a direction takes the name of a lattice direction
LARGEST_INDEX = 3


def direction_name(vector: np.ndarray, axes: np.ndarray | None = None) -> str:
    """Return a lattice direction such as ``"[001]"``, or Cartesian components where no simple one is within 1°.

    Args:
        vector (ndarray): Cartesian, any length.
        axes (ndarray, optional): Rows are the lattice vectors that the indices refer to. (default: x, y, z)

    Example::

        >>> direction_name(np.array([0.5, -0.5, 0.0]))
        '[1-10]'
    """
    axes = np.eye(3) if axes is None else axes
    unit = vector / np.linalg.norm(vector)
    indices = [
        index
        for index in product(range(-LARGEST_INDEX, LARGEST_INDEX + 1), repeat=3)
        if gcd(*index) == 1  # of (0, 0, 0) it is 0
    ]
    lattice = np.array(indices) @ axes
    cosines = lattice @ unit / np.linalg.norm(lattice, axis=1)
    best = int(cosines.argmax())
    if np.degrees(np.arccos(min(1.0, cosines[best]))) < ANGLE:
        return "[" + "".join(map(str, indices[best])) + "]"
    return "({:.3f}, {:.3f}, {:.3f})".format(*(unit + 0.0))


def operation_name(R: np.ndarray, axes: np.ndarray | None = None) -> str:
    """Return an element of O(3) in words.

    Args:
        R (ndarray): The operation ``[3, 3]``.
        axes (ndarray, optional): Rows are the lattice vectors that directions refer to. (default: x, y, z)

    Example::

        >>> operation_name(np.diag([1.0, 1.0, -1.0]))
        'mirror normal to [001]'
    """
    proper = np.linalg.det(R) > 0
    rotation = R if proper else -R
    axis, order = rotation_axis(rotation), rotation_order(rotation)
    if axis is None:
        return "identity" if proper else "inversion"
    name = direction_name(axis, axes)
    if not proper and order == 2:
        return f"mirror normal to {name}"
    angle = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    sense = rotation[[2, 0, 1], [1, 2, 0]] - rotation[[1, 2, 0], [2, 0, 1]]
    signed = f"{'-' if sense @ axis < -1e-6 else ''}{angle:.0f}°"
    return f"{'rotation' if proper else 'inversion times rotation'} by {signed} about {name}"


def quadrupole(vector: np.ndarray) -> np.ndarray:
    """Return the symmetric traceless matrix ``[3, 3]`` of a vector ``[5]`` in e3nn's basis of l = 2, same norm."""
    return clebsch_gordan(1, 1, 2).numpy() @ vector


def strain_components(strain: np.ndarray) -> np.ndarray:
    """Return the traceless part of a symmetric matrix ``[3, 3]`` in e3nn's basis of l = 2, ``[5]``, same norm."""
    return np.einsum("ijm,ij->m", clebsch_gordan(1, 1, 2).numpy(), strain)


def meaning(ir: o3.Irrep, vector: np.ndarray, axes: np.ndarray | None = None) -> str:
    """Return what an element of an irrep of O(3) is, e.g. ``"polar vector along [001]"``.

    Args:
        ir (o3.Irrep): The irrep.
        vector (ndarray): The element ``[2 l + 1]``, Cartesian for l = 1, in e3nn's basis above.
        axes (ndarray, optional): Rows are the lattice vectors that directions refer to. (default: x, y, z)

    Example::

        >>> meaning(o3.Irrep("1e"), np.array([0.0, 0.0, 2.0]))
        'axial vector along [001]'
    """
    natural = ir.p == (-1) ** ir.l
    if ir.l == 0:
        return "scalar" if natural else "pseudoscalar (handedness)"
    if ir.l == 1:
        return f"{'polar' if natural else 'axial'} vector along {direction_name(vector, axes)}"
    if ir.l == 2:
        return f"strain-like tensor, {_quadrupole(vector, axes)}" if natural else "pseudotensor of rank 2"
    names = {3: "octupole", 4: "hexadecapole"}
    kind = names.get(ir.l, f"multipole of degree {ir.l}")
    return kind if natural else f"pseudo-{kind}"


def _quadrupole(vector: np.ndarray, axes: np.ndarray | None) -> str:
    values, vectors = np.linalg.eigh(quadrupole(vector))
    spread = values[2] - values[0]
    if values[1] - values[0] < 0.02 * spread:
        return f"longer along {_line(vectors[:, 2], axes)}"
    if values[2] - values[1] < 0.02 * spread:
        return f"shorter along {_line(vectors[:, 0], axes)}"
    return f"longer along {_line(vectors[:, 2], axes)}, shorter along {_line(vectors[:, 0], axes)}"


def _line(axis: np.ndarray, axes: np.ndarray | None) -> str:
    last = np.nonzero(np.abs(axis) > 1e-6)[0][-1]
    return direction_name(axis * np.sign(axis[last]), axes)
