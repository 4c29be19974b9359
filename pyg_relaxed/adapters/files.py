"""Read a structure from any file that ASE or pymatgen reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..data import frame_of_file

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure


def read_structure(path: str | Path) -> Atoms:
    """Return the structure in a file, the last one if it holds several (``"run.traj@0"`` takes the first).

    ASE reads it, else pymatgen. Where the axes come from stands in ``atoms.info["frame"]``.

    Args:
        path (str or Path): The file, in any format of ASE or pymatgen.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If neither can read it, or sites are disordered.

    Example::

        >>> from pyg_relaxed import structures
        >>> read_structure(structures.path("BaTiO3_R3m")).get_chemical_formula()
        'BaO3Ti'
    """
    name = str(path)
    file = Path(name if Path(name).exists() else name.rpartition("@")[0] or name)
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}{' (a directory)' if file.is_dir() else ''}")
    atoms = _read(name, file)
    for site, kinds in (atoms.info.get("occupancy") or {}).items():
        if len(kinds) > 1 or min(kinds.values()) < 1:
            raise ValueError(f"{path}: site {site} is disordered ({kinds}): order it first, e.g. with pymatgen")
    atoms.info["frame"] = frame_of_file(file)
    return atoms


def as_atoms(structure: Atoms | Structure | str | Path) -> Atoms:
    """Return a structure of ASE or pymatgen, or that in a file, as ASE's; an ``Atoms`` object is returned as it is.

    Raises:
        ValueError: If a site of a pymatgen structure is disordered.
    """
    from ase import Atoms

    if isinstance(structure, Atoms):
        return structure
    if isinstance(structure, str | Path):
        return read_structure(structure)
    import torch

    from .ase import to_ase
    from .pymatgen import from_pymatgen

    # A graph without edges; float32 would cost digits of the positions.
    return to_ase(from_pymatgen(structure, cutoff=0.1, dtype=torch.float64, extras=False))


def _read(name: str, file: Path) -> Atoms:
    import ase.io
    from pymatgen.core import Structure

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parsers, about what they can live with
        try:
            return ase.io.read(name)
        except Exception as error:  # parsers raise anything on a file that is not theirs
            by_ase = f"{type(error).__name__}: {error}"
        try:
            structure = Structure.from_file(str(file))
        except Exception as error:
            by_pymatgen = f"{type(error).__name__}: {error}"
            raise ValueError(f"{name}: neither ASE ({by_ase}) nor pymatgen ({by_pymatgen}) can read it") from None
    try:
        return as_atoms(structure)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
