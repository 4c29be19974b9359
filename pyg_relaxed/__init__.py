"""Relaxed E(3)-equivariant layers for PyTorch Geometric, which tell which symmetry is broken."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import data, kernels, models, nn, o3, optim
from .io import load, save
from .o3 import RelaxedWeights
from .surgery import project_, rotate_, strict_, thetas

if TYPE_CHECKING:
    from . import calculators, datasets, deploy, report, structures, symmetry, transforms
    from .adapters import from_ase, from_pymatgen, to_ase, to_pymatgen
    from .calculators import RelaxedCalculator
    from .discovery import discover

__version__ = "0.1.0"

# Imported on first use: what they need is heavy, or not needed by layers.
_LAZY = {
    "RelaxedCalculator": "calculators",
    "calculators": "calculators",
    "datasets": "datasets",
    "deploy": "deploy",
    "discover": "discovery",
    "from_ase": "adapters",
    "from_pymatgen": "adapters",
    "report": "report",
    "structures": "structures",
    "symmetry": "symmetry",
    "transforms": "transforms",
    "to_ase": "adapters",
    "theta_group": "breaking",
    "to_pymatgen": "adapters",
    "turn_test": "breaking",
}

__all__ = [
    "RelaxedCalculator",
    "RelaxedWeights",
    "calculators",
    "data",
    "datasets",
    "deploy",
    "discover",
    "from_ase",
    "from_pymatgen",
    "kernels",
    "load",
    "models",
    "nn",
    "o3",
    "optim",
    "project_",
    "report",
    "rotate_",
    "save",
    "strict_",
    "structures",
    "symmetry",
    "theta_group",
    "thetas",
    "to_ase",
    "to_pymatgen",
    "transforms",
    "turn_test",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    module = importlib.import_module(f".{_LAZY[name]}", __name__)
    return module if _LAZY[name] == name else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
