"""Data sets whose symmetry is known beforehand: shapes of vertices, a particle in fields."""

from . import fields, shapes

__all__ = ["fields", "shapes"]
