"""PyG-shaped layers."""

from ..o3 import RelaxedLinear
from .conv import RelaxedConv
from .edges import EdgeEmbedding
from .gate import Gate
from .interaction import RelaxedInteraction
from .radial import Radial, polynomial_envelope
from .repulsion import PairRepulsion
from .table import RadialTable
from .tabulate import tabulate_

__all__ = [
    "EdgeEmbedding",
    "Gate",
    "PairRepulsion",
    "Radial",
    "RadialTable",
    "RelaxedConv",
    "RelaxedInteraction",
    "RelaxedLinear",
    "polynomial_envelope",
    "tabulate_",
]
