"""Models as calculators of ASE, and for many structures at once."""

from .ase import RelaxedCalculator
from .evaluation import Evaluation, evaluate
from .fire import Fire
from .relaxation import Relaxation, relax

__all__ = ["Evaluation", "Fire", "Relaxation", "RelaxedCalculator", "evaluate", "relax"]
