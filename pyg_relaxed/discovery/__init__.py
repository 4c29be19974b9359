"""From parent and child crystals to the symmetry that is broken."""

from .fit import Fit, ResidualGroup, fit_distortion, residual_group
from .mapping import Mapping, map_child, primitive

__all__ = ["Fit", "Mapping", "ResidualGroup", "fit_distortion", "map_child", "primitive", "residual_group"]
