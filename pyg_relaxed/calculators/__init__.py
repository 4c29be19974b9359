"""Models as calculators of ASE."""

from .ase import RelaxedCalculator

__all__ = ["RelaxedCalculator"]
