"""Networks made of layers."""

from .distortion import RelaxedDistortion
from .e3nn_network import RelaxedE3NN
from .potential import RelaxedPotential

__all__ = ["RelaxedDistortion", "RelaxedE3NN", "RelaxedPotential"]
