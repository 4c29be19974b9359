"""Structures of other libraries to graphs and back; nowhere else does a foreign structure appear."""

from .ase import from_ase, to_ase
from .files import as_atoms, read_structure
from .pymatgen import from_pymatgen, to_pymatgen

__all__ = ["as_atoms", "from_ase", "from_pymatgen", "read_structure", "to_ase", "to_pymatgen"]
