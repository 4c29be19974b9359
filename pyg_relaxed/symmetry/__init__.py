"""What theta says about symmetry. Mathematics: no layers, no data sets."""

from ..o3 import PointGroup, invariants, point_group
from .characters import PointGroupIrrep, point_group_irreps, subduce
from .equivariance import equivariance_error
from .orbit import orbit
from .stabilizer import Stabilizer, stabilizer

__all__ = [
    "PointGroup",
    "PointGroupIrrep",
    "Stabilizer",
    "equivariance_error",
    "invariants",
    "orbit",
    "point_group",
    "point_group_irreps",
    "stabilizer",
    "subduce",
]
