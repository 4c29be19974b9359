"""What spglib says of a crystal, asked in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..compat import quiet_spglib

if TYPE_CHECKING:
    from spglib import SpglibDataset


def symmetry_dataset(cell: np.ndarray, scaled: np.ndarray, numbers: np.ndarray, symprec: float) -> SpglibDataset:
    """Return the space group of a crystal and its operations, :func:`spglib.get_symmetry_dataset`.

    Args:
        cell: Lattice vectors as rows, shape ``[3, 3]``, in Å.
        scaled: Fractional coordinates, shape ``[N, 3]``.
        numbers: Atomic numbers, shape ``[N]``.
        symprec: Tolerance, Å.

    Raises:
        ValueError: If spglib finds none.

    Example:
        >>> symmetry_dataset(4 * np.eye(3), np.zeros((1, 3)), np.ones(1, dtype=int), 0.01).international
        'Pm-3m'
    """
    return _ask("get_symmetry_dataset", cell, scaled, numbers, symprec)


def primitive_cell(
    cell: np.ndarray, scaled: np.ndarray, numbers: np.ndarray, symprec: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cell, fractional coordinates and numbers of the primitive cell, in the same axes and not idealised.

    Arguments and errors are those of :func:`symmetry_dataset`.

    Example:
        >>> twice, scaled = np.diag([4.0, 4.0, 8.0]), np.array([[0, 0, 0], [0, 0, 0.5]])
        >>> primitive_cell(twice, scaled, np.ones(2, dtype=int), 0.01)[0].diagonal().tolist()
        [4.0, 4.0, 4.0]
    """
    found: tuple[np.ndarray, np.ndarray, np.ndarray] = _ask(
        "standardize_cell", cell, scaled, numbers, symprec, to_primitive=True, no_idealize=True
    )
    return found


def _ask(
    function: str, cell: np.ndarray, scaled: np.ndarray, numbers: np.ndarray, symprec: float, **options: bool
) -> Any:
    import spglib  # imports nothing heavy, but is needed here alone

    try:
        with quiet_spglib():
            found = getattr(spglib, function)((cell, scaled, numbers), symprec=symprec, **options)
    except getattr(spglib, "SpglibError", ()):  # versions to come raise where others return None
        found = None
    if found is None:
        raise ValueError(
            f"spglib finds no space group of {len(numbers)} atoms at symprec={symprec} Å: give a smaller one where "
            "atoms lie closer together than that, a larger one where noise hides the symmetry"
        )
    return found
