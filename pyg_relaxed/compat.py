"""What differs between the releases of our dependencies, and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# e3nn 0.4.4 unpickles a `slice` in its constants at import, which torch >= 2.6 refuses outside this context.
with torch.serialization.safe_globals([slice]):
    import e3nn
    from e3nn import nn as e3nn_nn
    from e3nn import o3

__all__ = ["default_dtype", "e3nn", "e3nn_nn", "o3", "quiet_spglib", "scriptable_torch"]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build modules in ``dtype``: e3nn rounds its constants to the default dtype, which ``.double()`` cannot undo."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def quiet_spglib() -> Iterator[None]:
    """Ask spglib, which from 2.7 on warns at each call of how later versions will raise their errors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        yield


@contextmanager
def scriptable_torch() -> Iterator[None]:
    """Give torch its ``index_select`` back: PyG 2.8 puts a function in its place that TorchScript cannot compile."""
    replaced = torch.index_select
    torch.index_select = torch._C._VariableFunctions.index_select
    try:
        yield
    finally:
        torch.index_select = replaced
