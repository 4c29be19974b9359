"""Spherical harmonics of edge vectors, compiled where they can be."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..compat import o3
from ..o3.layout import Select, concatenate
from .backends import DTYPES, is_transformed
from .cpu.compiler import CompilerError
from .cpu.harmonics import harmonics, library

if TYPE_CHECKING:
    from ..typing import IrrepsLike


class SphericalHarmonics(torch.nn.Module):
    """Spherical harmonics of the directions of vectors, those of :class:`e3nn.o3.SphericalHarmonics`.

    Normalisation is ``"component"``: the squares of each irrep sum to its dimension. On a CPU values and two orders of
    derivatives are compiled; elsewhere, and under functional transforms, e3nn's run.

    Args:
        irreps_sh (o3.Irreps or str): Irreps of the spherical harmonics, e.g. ``"0e+1o+2e"``.

    Shapes:
        - **input:** vectors ``[E, 3]``
        - **output:** ``[E, irreps_sh.dim]``

    Example::

        >>> SphericalHarmonics("0e+1o")(torch.tensor([[0.0, 0.0, 2.0]])).pow(2)
        tensor([[1., 0., 0., 3.]])
    """

    def __init__(self, irreps_sh: IrrepsLike) -> None:
        super().__init__()
        self.irreps_sh = o3.Irreps(irreps_sh)
        self.lmax = self.irreps_sh.lmax
        self.reference = o3.SphericalHarmonics(self.irreps_sh, normalize=True, normalization="component")
        columns = concatenate(torch.arange(ir.l**2, (ir.l + 1) ** 2) for mul, ir in self.irreps_sh for _ in range(mul))
        self.select = Select(columns, (self.lmax + 1) ** 2)

    def forward(self, edge_vec: Tensor) -> Tensor:
        """Return the harmonics of each vector."""
        if not is_transformed() and _is_compiled(self.lmax, edge_vec.device.type, edge_vec.dtype):
            return self.select(harmonics(edge_vec, self.lmax))
        return self.reference(edge_vec)


@torch.compiler.assume_constant_result
def _is_compiled(lmax: int, device: str, dtype: torch.dtype) -> bool:
    return _can_compile(lmax, device, dtype)


@functools.lru_cache(maxsize=64)
def _can_compile(lmax: int, device: str, dtype: torch.dtype) -> bool:
    if device != "cpu" or dtype not in DTYPES:
        return False
    try:
        library(lmax, dtype)
    except CompilerError:
        return False  # the convolution says so
    return True
