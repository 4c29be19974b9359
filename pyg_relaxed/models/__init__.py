"""Networks made of layers."""

from .distortion import RelaxedDistortion
from .e3nn_network import RelaxedE3NN
from .ensemble import Ensemble
from .potential import RelaxedPotential
from .tensor import RelaxedTensor

__all__ = ["Ensemble", "RelaxedDistortion", "RelaxedE3NN", "RelaxedPotential", "RelaxedTensor"]
