"""Structures of other libraries to graphs and back; nowhere else does a foreign structure appear."""

from .ase import from_ase, to_ase
from .pymatgen import from_pymatgen, to_pymatgen

__all__ = ["from_ase", "from_pymatgen", "to_ase", "to_pymatgen"]
