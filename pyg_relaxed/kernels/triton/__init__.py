"""The Triton backend: kernels for a GPU, generated from the path table once per irreps and layout."""

from .launch import Kernels, kernels, why_not
from .ops import to_edges, to_inputs, to_receivers, to_senders
from .sorting import sort

__all__ = ["Kernels", "kernels", "sort", "to_edges", "to_inputs", "to_receivers", "to_senders", "why_not"]
