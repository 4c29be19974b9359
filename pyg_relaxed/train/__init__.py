"""Training, evaluation and prediction (``pip install pyg-relaxed[train]``)."""

from __future__ import annotations

import importlib.util

for _name in ("lightning", "pydantic", "tensorboard", "yaml"):
    if importlib.util.find_spec(_name) is None:
        raise ImportError(f"training needs {_name}: pip install 'pyg-relaxed[train]'")

# ruff: noqa: E402
from .build import build
from .config import Config, read_config
from .data import Parts
from .evaluation import evaluate, load_trained, read_labelled
from .module import TrainingModule
from .predict import Counts, predict
from .run import train

__all__ = [
    "Config",
    "Counts",
    "Parts",
    "TrainingModule",
    "build",
    "evaluate",
    "load_trained",
    "predict",
    "read_config",
    "read_labelled",
    "train",
]
