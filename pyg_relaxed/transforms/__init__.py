"""Transforms of graphs of atoms, for PyG's ``transform`` and ``pre_transform``."""

from .mode_displacement import ModeDisplacement
from .position_noise import PositionNoise
from .radius_graph import RadiusGraph
from .random_rotation import RandomRotation
from .random_strain import RandomStrain
from .supercell import Supercell
from .symmetrize import Symmetrize, unsymmetrize
from .symmetry_modes import SymmetryMode, symmetry_modes

__all__ = [
    "ModeDisplacement",
    "PositionNoise",
    "RadiusGraph",
    "RandomRotation",
    "RandomStrain",
    "Supercell",
    "Symmetrize",
    "SymmetryMode",
    "symmetry_modes",
    "unsymmetrize",
]
