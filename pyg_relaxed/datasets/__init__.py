"""Data sets: structures of files and databases; and some whose symmetry is known beforehand, shapes and fields."""

from . import fields, shapes
from .atoms import AtomsDataset
from .splits import composition, prototype, split_groups
from .statistics import Statistics
from .tables import TensorTable, tensor_table

__all__ = [
    "AtomsDataset",
    "Statistics",
    "TensorTable",
    "composition",
    "fields",
    "prototype",
    "shapes",
    "split_groups",
    "tensor_table",
]
