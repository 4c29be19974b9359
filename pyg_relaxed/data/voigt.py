"""Six numbers for a symmetric pair of indices: in which order, and whether shears count once or twice.

====================  =================================  ===============================================================
order                 components                         used by
====================  =================================  ===============================================================
``"ase"``             xx, yy, zz, yz, xz, xy             ASE, and Voigt's own
``"pymatgen"``        xx, yy, zz, yz, xz, xy             pymatgen and IEEE 176, Materials Project
``"vasp"``            xx, yy, zz, xy, yz, zx             OUTCAR (stress, elastic moduli, piezoelectric tensors)
====================  =================================  ===============================================================

Units and signs are not touched. VASP prints the pressure-like ``-stress`` in kB (1 eV/Å^3 is 1602.18 kB, 160.218 GPa),
elastic moduli in kB, piezoelectric tensors in C/m^2; pymatgen and the Materials Project elastic moduli in GPa.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

ORDERS: Final = {
    "ase": ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)),
    "pymatgen": ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)),
    "vasp": ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2)),
}

# Of each tensor its indices: a vector's, a pair like that of stress, or like that of strain, whose shears count twice.
_INDICES: Final = {
    "stress": ("stress",),
    "strain": ("strain",),
    "piezoelectric_stress": ("vector", "stress"),
    "piezoelectric_strain": ("vector", "strain"),
    "stiffness": ("stress", "stress"),
    "compliance": ("strain", "strain"),
}


def from_voigt(values: npt.ArrayLike, tensor: str, order: str) -> np.ndarray:
    """Return the Cartesian tensor of one in Voigt's notation (J. F. Nye, Physical Properties of Crystals, ch. 7 to 9).

    Args:
        values: Shape ``[..., 6]`` for ``"stress"`` and ``"strain"`` (xy holds twice the component), ``[..., 3, 6]`` for
            ``"piezoelectric_stress"`` (e = dP/dstrain) and ``"piezoelectric_strain"`` (d = dP/dstress, shears twice),
            ``[..., 6, 6]`` for ``"stiffness"`` and ``"compliance"`` (shears twice, of both indices four times).
        tensor: Which of these.
        order: ``"ase"``, ``"pymatgen"`` or ``"vasp"``.

    Returns:
        Shape ``[..., 3, 3]``, ``[..., 3, 3, 3]`` or ``[..., 3, 3, 3, 3]``.

    Raises:
        ValueError: For an unknown tensor or order, or another shape.

    Example:
        >>> from_voigt([1, 2, 3, 4, 5, 6], "stress", "vasp").tolist()
        [[1.0, 4.0, 6.0], [4.0, 2.0, 5.0], [6.0, 5.0, 3.0]]
    """
    indices = _indices(tensor, order)
    array = np.asarray(values, dtype=np.float64)
    expected = tuple(3 if index == "vector" else 6 for index in indices)
    if array.shape[-len(indices) :] != expected:
        raise ValueError(f"'{tensor}' in Voigt's notation must end with {expected} (got {array.shape})")
    for n, index in enumerate(indices):
        axis = n - len(indices)
        array = np.moveaxis(array, axis, -1)
        array = np.moveaxis(array @ _expansion(index, order), -1, axis)
    return array.reshape(*array.shape[: -len(indices)], *[3] * sum(1 if i == "vector" else 2 for i in indices))


def to_voigt(values: npt.ArrayLike, tensor: str, order: str, tol: float = 1e-8) -> np.ndarray:
    """Return a Cartesian tensor in Voigt's notation: the inverse of :func:`from_voigt`.

    Args:
        values: Shape ``[..., 3, 3]``, ``[..., 3, 3, 3]`` or ``[..., 3, 3, 3, 3]``.
        tensor: Which one, see :func:`from_voigt`.
        order: ``"ase"``, ``"pymatgen"`` or ``"vasp"``.
        tol: How far pairs of indices may be from symmetric, relative to the largest component.

    Raises:
        ValueError: For an unknown tensor or order, another shape, or pairs of indices that are not symmetric: six
            numbers cannot hold them.

    Example:
        >>> to_voigt([[1, 4, 6], [4, 2, 5], [6, 5, 3]], "stress", "vasp").tolist()
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    """
    indices = _indices(tensor, order)
    array = np.asarray(values, dtype=np.float64)
    rank = sum(1 if index == "vector" else 2 for index in indices)
    if array.shape[-rank:] != (3,) * rank:
        raise ValueError(f"'{tensor}' must end with {rank} dimensions of 3 (got {array.shape})")
    array = array.reshape(*array.shape[:-rank], *(3 if index == "vector" else 9 for index in indices))
    given = array
    for n, index in enumerate(indices):
        axis = n - len(indices)
        array = np.moveaxis(np.moveaxis(array, axis, -1) @ _contraction(index, order), -1, axis)
    lost = abs(from_voigt(array, tensor, order).reshape(given.shape) - given).max(initial=0.0)
    if lost > tol * abs(given).max(initial=0.0):
        raise ValueError(
            f"'{tensor}' is not symmetric in a pair of indices (by {lost:.2g}), which six numbers cannot hold: "
            "symmetrise it, or keep the Cartesian tensor"
        )
    return array


def _indices(tensor: str, order: str) -> tuple[str, ...]:
    if tensor not in _INDICES:
        raise ValueError(f"'tensor' must be one of {tuple(_INDICES)} (got {tensor!r})")
    if order not in ORDERS:
        raise ValueError(f"'order' must be one of {tuple(ORDERS)} (got {order!r})")
    return _INDICES[tensor]


def _expansion(index: str, order: str) -> np.ndarray:
    """Return the matrix from Voigt's components to Cartesian ones, ``[6, 9]``, or ``[3, 3]`` of a vector."""
    if index == "vector":
        return np.eye(3)
    matrix = np.zeros((6, 3, 3))
    for n, (i, j) in enumerate(ORDERS[order]):
        matrix[n, i, j] = matrix[n, j, i] = 0.5 if index == "strain" and i != j else 1.0
    return matrix.reshape(6, 9)


def _contraction(index: str, order: str) -> np.ndarray:
    """Return the inverse of the expansion on symmetric pairs: its rows are orthogonal."""
    expansion = _expansion(index, order)
    return (expansion / (expansion**2).sum(axis=1, keepdims=True)).T
