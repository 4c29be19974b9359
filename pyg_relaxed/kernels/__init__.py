"""The one trilinear operation: gather, tensor product, sum over neighbours."""

from .conv import TensorProductConv
from .paths import Path, PathTable
from .spline import interpolate

__all__ = ["Path", "PathTable", "TensorProductConv", "interpolate"]
