"""Where the Cartesian axes come from, and how one cell maps onto another.

A relaxed model depends on its axes. Files with all nine numbers of the cell keep the laboratory's (``"cartesian"``);
files with three lengths and three angles make the reader choose its own (``"standard"``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Frame = Literal["cartesian", "standard"]
FRAMES: Final = ("cartesian", "standard")

# The reader rebuilds the axes: CIF holds lengths and angles, LAMMPS wants a along x and b in the xy plane.
_STANDARD_SUFFIXES: Final = (
    ".cif",
    ".mcif",
    ".mmcif",
    ".pdb",
    ".res",
    ".shelx",
    ".lmp",
    ".data",
    ".lammps",
    ".lammps-data",
)
_CARTESIAN_SUFFIXES: Final = (".extxyz", ".xyz", ".traj", ".json", ".db", ".vasp", ".xml")
_FIRST: Final = {"ase": (0, 1, 2), "pymatgen": (2, 0, 1)}  # even permutations: handedness stays
_STANDARD_NAMES: Final = ("lammps-data", "data.", "lmp.")


class FrameWarning(UserWarning):
    """What depends on the axes is computed in axes that a reader has rebuilt."""


def frame_of_file(path: str | Path) -> Frame:
    """Guess from its name whether a file keeps the Cartesian axes.

    ``"standard"``: CIF, PDB, SHELX (.res) and LAMMPS data. ``"cartesian"``: everything else: POSCAR, CONTCAR,
    vasprun.xml, extxyz, xyz, traj, json, db and so on. It is a guess: pass ``frame=`` to the adapters where you know.

    Args:
        path: Name of the file; it need not exist.

    Example:
        >>> frame_of_file("BaTiO3.cif"), frame_of_file("POSCAR"), frame_of_file("run.extxyz.gz")
        ('standard', 'cartesian', 'cartesian')
    """
    name = Path(path).name.lower()
    for packed in (".gz", ".bz2", ".xz"):
        name = name.removesuffix(packed)
    by_prefix = name.startswith(_STANDARD_NAMES) and not name.endswith(_CARTESIAN_SUFFIXES)
    standard = name.endswith(_STANDARD_SUFFIXES) or by_prefix
    return "standard" if standard else "cartesian"


def check_frame(frame: str) -> None:
    """Raise unless ``frame`` is one of the two.

    Raises:
        ValueError: If it is not.
    """
    if frame not in FRAMES:
        raise ValueError(f"'frame' must be one of {FRAMES} (got {frame!r}): 'cartesian' keeps the axes of the source")


def is_standard_cell(cell: npt.ArrayLike, tol: float = 1e-6) -> bool:
    """Return whether a cell looks rebuilt: a along x, b in xy (ASE, LAMMPS), or c along z, a in xz (pymatgen).

    Args:
        cell: Lattice vectors as rows, shape ``[3, 3]``, in Å.
        tol: In Å.

    Example:
        >>> is_standard_cell(np.eye(3)), is_standard_cell([[0, 2, 2], [2, 0, 2], [2, 2, 0]])
        (True, False)
    """
    h = np.asarray(cell, dtype=np.float64)
    ase = abs(h[0, 1]) < tol and abs(h[0, 2]) < tol and abs(h[1, 2]) < tol and h[0, 0] > 0 and h[1, 1] > 0
    pymatgen = abs(h[2, 0]) < tol and abs(h[2, 1]) < tol and abs(h[0, 1]) < tol and h[2, 2] > 0 and h[0, 0] > 0
    return bool(ase or pymatgen)


def standard_form(cell: npt.ArrayLike, convention: str = "ase") -> tuple[np.ndarray, np.ndarray]:
    """Return a cell in the axes that readers rebuild it in, and the rotation there.

    Args:
        cell: Lattice vectors as rows, shape ``[3, 3]``, in Å.
        convention: ``"ase"`` (and LAMMPS), a along x and b in the xy plane; ``"pymatgen"``, c along z and a in the xz
            plane. The third vector is then on the positive side for right-handed cells, on the negative one for others.

    Returns:
        The cell, and the proper rotation R with ``cell @ R.T`` equal to it, both of shape ``[3, 3]``.

    Raises:
        ValueError: If the cell has no volume, or the convention is unknown.

    Example:
        >>> fcc = [[0, 2, 2], [2, 0, 2], [2, 2, 0]]
        >>> standard, R = standard_form(fcc)
        >>> is_standard_cell(standard), bool(np.allclose(fcc @ R.T, standard))
        (True, True)
    """
    if convention not in _FIRST:
        raise ValueError(f"'convention' must be one of {tuple(_FIRST)} (got {convention!r})")
    h = np.asarray(cell, dtype=np.float64)
    if not abs(np.linalg.det(h)) > 0:
        raise ValueError(f"'cell' {h.tolist()} has no volume: give three independent lattice vectors")
    first = list(_FIRST[convention])  # row and axis that go first, then second, then third
    Q, _ = np.linalg.qr(h[first].T)
    Q *= np.sign(np.diag(h[first] @ Q))
    Q[:, 2] *= np.sign(np.linalg.det(Q))
    R = np.empty((3, 3))
    R[first] = Q.T
    standard = h @ R.T
    standard[np.ix_(first, first)] = np.tril(standard[np.ix_(first, first)])  # rounding
    return standard, R


def cell_map(parent: npt.ArrayLike, child: npt.ArrayLike) -> np.ndarray:
    """Return the F that takes the parent's cell to the child's: ``x_child = F x_parent``, so ``child = parent @ F.T``.

    Args:
        parent: Lattice vectors as rows, shape ``[3, 3]``, in Å.
        child: The same vectors, distorted and turned, shape ``[3, 3]``, in Å.

    Returns:
        F, shape ``[3, 3]``.

    Raises:
        ValueError: If the parent's cell has no volume.

    Example:
        >>> cell_map(2 * np.eye(3), np.diag([2.0, 2.0, 3.0])).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.5]]
    """
    h = np.asarray(parent, dtype=np.float64)
    if not abs(np.linalg.det(h)) > 0:
        raise ValueError(f"'parent' cell {h.tolist()} has no volume: give three independent lattice vectors")
    return np.linalg.solve(h, np.asarray(child, dtype=np.float64)).T


def polar_decomposition(F: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Split ``F = R U`` into a proper rotation R and a symmetric, positive stretch U.

    F acts on column vectors, ``x_child = F x_parent``; cells hold rows, so ``child = parent @ F.T`` (:func:`cell_map`).
    ``child @ R = parent @ U``: turning the child by R's inverse (rows times R) brings it into the parent's frame, and
    ``U - 1`` is the strain it then has.

    Args:
        F: Shape ``[3, 3]``, positive determinant.

    Returns:
        R of shape ``[3, 3]`` with determinant 1, U of shape ``[3, 3]``.

    Raises:
        ValueError: If the determinant of F is not positive, that is if the two cells have opposite handedness.

    Example:
        >>> R, U = polar_decomposition([[0.0, -2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> R.round(6).tolist(), np.diag(U).round(6).tolist()
        ([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [1.0, 2.0, 1.0])
    """
    F = np.asarray(F, dtype=np.float64)
    if F.shape != (3, 3) or not np.isfinite(F).all() or not np.linalg.det(F) > 0:
        raise ValueError(
            f"'F' must be a 3 x 3 map of positive determinant (got {F.tolist()}): "
            "where the cells have opposite handedness, negate the lattice vectors of one"
        )
    W, S, Vh = np.linalg.svd(F)
    U = Vh.T @ np.diag(S) @ Vh
    return W @ Vh, (U + U.T) / 2
