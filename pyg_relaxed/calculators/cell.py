"""A cell that moves along with its atoms: the variables of ASE's ``FrechetCellFilter``, all nine of them."""

from __future__ import annotations

import numpy as np
import torch


def deformations(logarithms: np.ndarray) -> np.ndarray:
    r"""Return :math:`F = \exp U`; atoms are at :math:`x = F s`, lattice vectors at :math:`a = F a_0`.

    Args:
        logarithms: U of each structure, shape ``[B, 3, 3]``; turns are its antisymmetric part.

    Example:
        >>> deformations(np.zeros((1, 3, 3))).tolist()
        [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]
    """
    return torch.linalg.matrix_exp(torch.from_numpy(logarithms)).numpy()


def logarithm_forces(logarithms: np.ndarray, virials: np.ndarray) -> np.ndarray:
    r"""Return :math:`-\partial E / \partial U`, shape ``[B, 3, 3]``.

    With the full stress :math:`\sigma`, whose antisymmetric part is the torque of a model that breaks symmetry,
    :math:`-\partial E / \partial F = W F^{-T}` for the virial :math:`W = -V \sigma`. The derivative of the exponential
    is linear, and its transpose at U is its value at :math:`U^T`: the block of (N. J. Higham, Functions of Matrices,
    SIAM 2008, eq. 3.16)

    .. math::
        \exp \begin{pmatrix} U^T & W F^{-T} \\ 0 & U^T \end{pmatrix} =
        \begin{pmatrix} F^T & -\partial E / \partial U \\ 0 & F^T \end{pmatrix}

    Args:
        logarithms: U, shape ``[B, 3, 3]``.
        virials: W, shape ``[B, 3, 3]``, in eV.

    Example:
        >>> logarithm_forces(np.zeros((1, 3, 3)), np.diag([1.0, 2.0, 3.0])[None]).diagonal(axis1=1, axis2=2).tolist()
        [[1.0, 2.0, 3.0]]
    """
    U = torch.from_numpy(logarithms).mT
    on_F = torch.from_numpy(virials) @ torch.linalg.matrix_exp(-U)
    block = torch.cat([torch.cat([U, on_F], dim=2), torch.cat([torch.zeros_like(U), U], dim=2)], dim=1)
    return torch.linalg.matrix_exp(block)[:, :3, 3:].numpy()
