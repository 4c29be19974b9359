"""PyG-shaped layers."""

from ..o3 import RelaxedLinear
from .conv import RelaxedConv
from .gate import gated_irreps, make_gate
from .interaction import RelaxedInteraction
from .radial import Radial, polynomial_envelope
from .table import RadialTable, tabulate_

__all__ = [
    "Radial",
    "RadialTable",
    "RelaxedConv",
    "RelaxedInteraction",
    "RelaxedLinear",
    "gated_irreps",
    "make_gate",
    "polynomial_envelope",
    "tabulate_",
]
