"""Transforms of graphs of atoms, for PyG's ``transform`` and ``pre_transform``."""

from .radius_graph import RadiusGraph

__all__ = ["RadiusGraph"]
