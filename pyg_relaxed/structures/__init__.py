"""Bundled structures: BaTiO3 in its four phases, in one set of Cartesian axes and one order of atoms.

Each file is extended XYZ: its second line names the source, the published numbers, the axes and what was verified.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ase import Atoms

NAMES: Final = ("BaTiO3_Pm-3m", "BaTiO3_P4mm", "BaTiO3_Amm2", "BaTiO3_R3m")


def path(name: str) -> Path:
    """Return the file of a bundled structure.

    Args:
        name: One of :data:`NAMES`.

    Raises:
        ValueError: For another name.

    Example:
        >>> path("BaTiO3_P4mm").name
        'BaTiO3_P4mm.extxyz'
    """
    if name not in NAMES:
        raise ValueError(f"no bundled structure is called {name!r}: choose one of {', '.join(NAMES)}")
    return Path(__file__).parent / f"{name}.extxyz"


def load(name: str) -> Atoms:
    """Read a bundled structure.

    Args:
        name: One of :data:`NAMES`.

    Returns:
        Five atoms, Ba, Ti, O, O, O, matching atom by atom between the phases.

    Raises:
        ValueError: For another name.

    Example:
        >>> load("BaTiO3_R3m").cell.lengths().round(4).tolist()
        [4.0036, 4.0036, 4.0036]
    """
    from ase.io import read

    return read(path(name))
