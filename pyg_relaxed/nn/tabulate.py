"""Models that read their radial functions from tables, for inference."""

from __future__ import annotations

from typing import TypeVar

import torch

from .conv import RelaxedConv
from .table import RadialTable

Model = TypeVar("Model", bound=torch.nn.Module)


def tabulate_(model: Model, tol: float = 1e-7) -> Model:
    """Let the convolutions of a model read their radial functions from tables in eval mode, faster than networks.

    Tables follow the weights: they are made again when those have changed, except under ``torch.compile``, which keeps
    the tables that it finds. Outputs can be differentiated once, exactly for the splines. Convolutions with edge
    attributes, whose weights depend on more than a length, are left alone.

    Args:
        model (torch.nn.Module): The model, changed in place.
        tol (float, optional): Largest error of a slope, relative to the largest slope. (default: :obj:`1e-7`)

    Example::

        >>> from pyg_relaxed.nn import RelaxedConv
        >>> conv = tabulate_(RelaxedConv("8x0e", "8x0e+4x1o", "0e+1o")).eval()
        >>> conv.table.error < 1e-7
        True
    """
    for module in model.modules():
        if isinstance(module, RelaxedConv) and module.edge_dim == 0:
            module.table = RadialTable(module.radial, module.cutoff, tol)
    return model
