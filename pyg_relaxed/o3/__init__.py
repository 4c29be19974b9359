"""Mathematics: relaxed weights, their contraction with Clebsch-Gordan coefficients, point groups, invariants."""

from .cartesian import CartesianTensor
from .contraction import ThetaContraction
from .invariants import generators, invariants, projector, representation
from .linear import RelaxedLinear
from .point_groups import PointGroup, point_group
from .weights import LearnedField, RelaxedWeights, theta_irreps

__all__ = [
    "CartesianTensor",
    "LearnedField",
    "PointGroup",
    "RelaxedLinear",
    "RelaxedWeights",
    "ThetaContraction",
    "generators",
    "invariants",
    "point_group",
    "projector",
    "representation",
    "theta_irreps",
]
