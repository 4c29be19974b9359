"""What theta says about symmetry. Pure mathematics: no layers, no data."""

from ..o3 import PointGroup, invariants, point_group
from .orbit import orbit
from .stabilizer import stabilizer

__all__ = ["PointGroup", "invariants", "orbit", "point_group", "stabilizer"]
