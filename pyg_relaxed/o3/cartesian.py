"""Cartesian tensors to irreps and back."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compat import default_dtype, o3
from .constants import ExactConstants


class CartesianTensor(ExactConstants):
    """The irreps of a Cartesian tensor with some symmetry of its indices, as :class:`e3nn.io.CartesianTensor` has them.

    The change of basis is orthonormal, so norms stay. Of the common ones:

    ============================================ ======================= ==============================
    tensor                                       formula                 irreps
    ============================================ ======================= ==============================
    dipole, polarisation                         ``i``                   1o
    Born effective charge, stress of a relaxed   ``ij``                  0e+1e+2e
    dielectric, polarisability, stress           ``ij=ji``               0e+2e
    piezoelectric                                ``ijk=ikj``             2x1o+2o+3o
    elastic                                      ``ijkl=jikl=klij``      2x0e+2x2e+4e
    ============================================ ======================= ==============================

    Args:
        formula (str): Indices, and what they may be exchanged for, as e3nn writes it.

    Raises:
        ValueError: If the formula says nothing that e3nn understands.

    Example::

        >>> dielectric = CartesianTensor("ij=ji")
        >>> dielectric.irreps, dielectric.to_irreps(torch.eye(3)).shape
        (1x0e+1x2e, torch.Size([6]))
    """

    change_of_basis: Tensor

    def __init__(self, formula: str) -> None:
        from e3nn import io  # which imports more than layers need

        super().__init__()
        self.formula = formula
        try:
            with default_dtype(torch.float64):
                tensor = io.CartesianTensor(formula)
                basis = tensor.reduced_tensor_products().change_of_basis.double()
        except Exception as error:  # e3nn raises anything on what it cannot parse
            raise ValueError(f"'formula' must be such as 'ij=ji' (got {formula!r}): {error}") from None
        self.irreps = o3.Irreps(tensor)
        self.rank = basis.dim() - 1
        self.register_constant("change_of_basis", basis)

    def to_irreps(self, tensor: Tensor) -> Tensor:
        """Return the components in :attr:`irreps`, of the part of a tensor that has the symmetry of the formula.

        Args:
            tensor (Tensor): ``[..., 3, 3, ...]``, Cartesian.
        """
        if tensor.shape[-self.rank :] != self.change_of_basis.shape[1:]:
            raise ValueError(f"'tensor' must end with {self.rank} dimensions of 3 (got {tuple(tensor.shape)})")
        return tensor.flatten(-self.rank) @ self.change_of_basis.flatten(1).T

    def from_irreps(self, x: Tensor) -> Tensor:
        """Return the Cartesian tensor ``[..., 3, 3, ...]`` of components ``[..., irreps.dim]``."""
        if x.shape[-1] != self.irreps.dim:
            raise ValueError(f"'x' must have last dimension {self.irreps.dim} for {self.irreps} (got {tuple(x.shape)})")
        return (x @ self.change_of_basis.flatten(1)).unflatten(-1, (3,) * self.rank)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.formula} | {self.irreps})"
