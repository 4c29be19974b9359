"""What theta says about symmetry. Pure mathematics: no layers, no data."""

from ..o3 import PointGroup, invariants, point_group
from .characters import PointGroupIrrep, point_group_irreps, subduce
from .orbit import orbit
from .stabilizer import Stabilizer, stabilizer

__all__ = [
    "PointGroup",
    "PointGroupIrrep",
    "Stabilizer",
    "invariants",
    "orbit",
    "point_group",
    "point_group_irreps",
    "stabilizer",
    "subduce",
]
