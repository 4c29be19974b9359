"""A random homogeneous strain."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch_geometric.data import Data

from ..checks import check_positive
from .moved import moved, targets_to_keep
from .structure_transform import StructureTransform


class RandomStrain(StructureTransform):
    r"""Strain a structure by a random symmetric tensor: cell and positions (those of fixed atoms too) follow.

    :math:`x' = \exp(\epsilon) x` with the logarithmic strain :math:`\epsilon = (A + A^T) / 2`, A of independent normal
    numbers. No axis is preferred (:math:`R \epsilon R^T` is as likely as :math:`\epsilon`), so the strain breaks no
    symmetry on average; it never turns a structure and never inverts it. Targets of the old structure go, and so do the
    records of :class:`Symmetrize`, which lead back from the old cell; edges within a ``cutoff`` are found anew.

    Args:
        magnitude (float): Standard deviation of the diagonal of the strain; off the diagonal it is
            :math:`\sqrt{2}` times smaller.
        keep (iterable of str, optional): Targets that stay on purpose. (default: :obj:`()`)
        generator (torch.Generator, optional): Source of the strain; see :class:`PositionNoise`.
            (default: :obj:`None`)

    Raises:
        ValueError: If ``magnitude`` is not positive, or ``keep`` names what is no target.

    Example::

        >>> data = Data(pos=torch.ones(1, 3), cell=2 * torch.eye(3)[None])
        >>> strained = RandomStrain(magnitude=0.02)(data)
        >>> torch.allclose(strained.pos, strained.cell.sum(dim=1) / 2)  # the atom is still in the middle
        True
    """

    def __init__(self, magnitude: float, keep: Iterable[str] = (), generator: torch.Generator | None = None) -> None:
        check_positive("magnitude", magnitude)
        self.magnitude, self.keep, self.generator = float(magnitude), targets_to_keep(keep), generator

    def change(self, data: Data) -> Data:
        """Return the strained graph."""
        device = data.pos.device if self.generator is None else self.generator.device
        A = torch.randn(3, 3, generator=self.generator, dtype=torch.float64, device=device).to(data.pos.device)
        F = torch.linalg.matrix_exp(self.magnitude * (A + A.T) / 2).to(data.pos.dtype)
        cell = data.get("cell")
        strained = moved(data, data.pos @ F, None if cell is None else cell @ F, self.keep)  # F is symmetric
        for name in ("celldisp", "site_noise"):
            if data.get(name) is not None:
                strained[name] = data[name] @ F
        return strained

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(magnitude={self.magnitude})"
