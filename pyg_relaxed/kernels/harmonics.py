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
        - **input:** vectors ``[..., 3]``
        - **output:** ``[..., irreps_sh.dim]``

    Raises:
        ValueError: If the vectors have another last dimension.

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
        if edge_vec.dim() == 0 or edge_vec.shape[-1] != 3:  # compiled code counts rows
            raise ValueError(f"vectors must have shape [..., 3] (got {tuple(edge_vec.shape)})")
        if is_transformed() or not _is_compiled(self.lmax, edge_vec.device.type, edge_vec.dtype):
            return self.reference(edge_vec)
        y = self.select(harmonics(edge_vec.reshape(-1, 3), self.lmax))
        return y if edge_vec.dim() == 2 else y.view(*edge_vec.shape[:-1], y.shape[-1])

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.irreps_sh})"


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
