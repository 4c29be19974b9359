"""The one trilinear operation: gather, tensor product, sum over neighbours."""

from . import triton as _triton  # noqa: F401 (implements the operators on a GPU)
from .conv import TensorProductConv
from .harmonics import SphericalHarmonics
from .paths import Path, PathTable
from .perceptron import perceptron
from .spline import interpolate

__all__ = ["Path", "PathTable", "SphericalHarmonics", "TensorProductConv", "interpolate", "perceptron"]
