"""Potentials as files that other programs run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .aoti import CompilerError, Package, export_aoti, load_aoti
from .folded import FoldedPotential, fold

if TYPE_CHECKING:
    from .metatomic import export_metatomic

__all__ = ["CompilerError", "FoldedPotential", "Package", "export_aoti", "export_metatomic", "fold", "load_aoti"]


def __getattr__(name: str) -> Any:
    if name != "export_metatomic":  # which needs metatomic
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        return importlib.import_module(f"{__name__}.metatomic").export_metatomic
    except ImportError as error:
        raise ImportError(f"{error}: `pip install pyg-relaxed[metatomic]`") from error
