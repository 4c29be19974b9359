"""PyG-shaped layers."""

from ..o3 import RelaxedLinear
from .conv import RelaxedConv
from .gate import gated_irreps, make_gate
from .interaction import RelaxedInteraction
from .radial import Radial, polynomial_envelope

__all__ = [
    "Radial",
    "RelaxedConv",
    "RelaxedInteraction",
    "RelaxedLinear",
    "gated_irreps",
    "make_gate",
    "polynomial_envelope",
]
