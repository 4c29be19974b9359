"""The main job: a parent and a child crystal in, findings out."""

from .diagnosis import ResidualGroup, residual_group
from .discover import discover
from .findings import Discovery, OrderParameter
from .fit import Fit, fit_distortion
from .mapping import Mapping, map_child
from .parent import Parent

__all__ = [
    "Discovery",
    "Fit",
    "Mapping",
    "OrderParameter",
    "Parent",
    "ResidualGroup",
    "discover",
    "fit_distortion",
    "map_child",
    "residual_group",
]
