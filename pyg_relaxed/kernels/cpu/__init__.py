"""The CPU backend: C generated from the path table, compiled once per irreps and dtype."""

from .compiler import CompilerError, find_compiler
from .networked import networked
from .ops import to_edges, to_inputs, to_inputs_backward, to_receivers, to_senders
from .sorting import sorted_edges
from .splined import splined

__all__ = [
    "CompilerError",
    "find_compiler",
    "networked",
    "sorted_edges",
    "splined",
    "to_edges",
    "to_inputs",
    "to_inputs_backward",
    "to_receivers",
    "to_senders",
]
