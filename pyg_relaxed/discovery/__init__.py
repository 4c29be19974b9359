"""From parent and child crystals to the symmetry that is broken."""

from .mapping import Mapping, map_child, primitive

__all__ = ["Mapping", "map_child", "primitive"]
