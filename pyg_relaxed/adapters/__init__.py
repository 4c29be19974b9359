"""Structures of other libraries to graphs and back; nowhere else does a foreign structure appear."""

from .ase import from_ase, to_ase
from .file_sources import Source
from .files import as_atoms, read_structure
from .pymatgen import from_pymatgen, to_pymatgen
from .sources import as_graph, open_source

__all__ = [
    "Source",
    "as_atoms",
    "as_graph",
    "from_ase",
    "from_pymatgen",
    "open_source",
    "read_structure",
    "to_ase",
    "to_pymatgen",
]
